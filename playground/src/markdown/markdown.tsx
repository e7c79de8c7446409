/**
 * Shows Markdown as elements of our own choosing.
 *
 * Nothing of the text ever reaches an HTML parser: the lexer's tokens become elements one by one,
 * HTML among them is shown as the text it is, and an address becomes a link only under a scheme
 * that is known to be harmless. There is nothing left to sanitise.
 */

import type { MarkedToken, Token, Tokens } from "marked";
import { Component, type ComponentChildren, type VNode } from "preact";
import { CopyButton } from "../views/copy-button.js";
import { decodeEntities } from "./entities.js";

const SCHEMES = new Set(["http:", "https:", "mailto:"]);

export function Markdown({ blocks }: { blocks: readonly Token[] }): VNode {
  return (
    <div class="markdown">
      {blocks.map((token, index) => (
        <Block key={index} token={token as MarkedToken} />
      ))}
    </div>
  );
}

/** A block; it is shown anew only when its token is another one. */
class Block extends Component<{ token: MarkedToken }> {
  override shouldComponentUpdate({ token }: { token: MarkedToken }): boolean {
    return token !== this.props.token;
  }

  override render(): ComponentChildren {
    return block(this.props.token);
  }
}

function block(token: MarkedToken): ComponentChildren {
  switch (token.type) {
    case "heading": {
      const Heading = `h${Math.min(token.depth + 2, 6)}` as "h3"; // below the page's own
      return <Heading data-depth={token.depth}>{inlines(token.tokens)}</Heading>;
    }
    case "paragraph":
      return <p>{inlines(token.tokens)}</p>;
    case "code":
      return <CodeBlock language={token.lang ?? ""} text={token.text} />;
    case "blockquote":
      return <blockquote>{blocks(token.tokens)}</blockquote>;
    case "list":
      return list(token);
    case "table":
      return table(token);
    case "hr":
      return <hr />;
    case "html":
      return <p>{token.text.trim()}</p>;
    case "text":
      return inlines(token.tokens ?? [token]);
    case "space":
    case "def":
      return null;
    default:
      return inline(token);
  }
}

function blocks(tokens: readonly Token[]): ComponentChildren {
  return tokens.map((token) => block(token as MarkedToken));
}

function list({ ordered, start, items }: Tokens.List): VNode {
  const shown = items.map((item) => <li class={item.task ? "task" : undefined}>{entry(item)}</li>);
  return ordered ? <ol start={start === "" ? undefined : start}>{shown}</ol> : <ul>{shown}</ul>;
}

function entry({ tokens }: Tokens.ListItem): ComponentChildren {
  return tokens.map((token) => block(token as MarkedToken));
}

function table({ header, rows, align }: Tokens.Table): VNode {
  const cells = (row: Tokens.TableCell[], Cell: "th" | "td") =>
    row.map((cell, column) => (
      <Cell data-align={align[column] ?? undefined}>{inlines(cell.tokens)}</Cell>
    ));
  return (
    <section class="table" tabIndex={0} aria-label="Table">
      <table>
        <thead>
          <tr>{cells(header, "th")}</tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr>{cells(row, "td")}</tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function inlines(tokens: readonly Token[]): ComponentChildren {
  return tokens.map((token) => inline(token as MarkedToken));
}

function inline(token: MarkedToken): ComponentChildren {
  switch (token.type) {
    case "strong":
      return <strong>{inlines(token.tokens)}</strong>;
    case "em":
      return <em>{inlines(token.tokens)}</em>;
    case "del":
      return <del>{inlines(token.tokens)}</del>;
    case "codespan":
      return <code>{token.text}</code>;
    case "br":
      return <br />;
    case "link":
      return <Address href={token.href}>{inlines(token.tokens)}</Address>;
    case "image": // never loaded: only this server is asked for anything
      return <Address href={token.href}>{token.text || token.href}</Address>;
    case "checkbox":
      return <input type="checkbox" checked={token.checked} disabled />;
    case "html":
      return /^<br\s*\/?>$/i.test(token.text) ? <br /> : token.text;
    case "text":
      return token.tokens ? inlines(token.tokens) : decodeEntities(token.text);
    case "escape":
      return token.text;
    default:
      return token.raw;
  }
}

function Address({ href, children }: { href: string; children: ComponentChildren }): VNode {
  const address = decodeEntities(href);
  if (!URL.canParse(address) || !SCHEMES.has(new URL(address).protocol))
    return <span>{children}</span>;
  return (
    <a href={address} target="_blank" rel="noopener noreferrer" title={address}>
      {children}
    </a>
  );
}

export function CodeBlock({ language, text }: { language: string; text: string }): VNode {
  return (
    <figure class="code">
      <figcaption>
        <span>{language.split(/\s/)[0] || "text"}</span>
        <CopyButton text={text} what="code" />
      </figcaption>
      <pre tabIndex={0}>
        <code>{text}</code>
      </pre>
    </figure>
  );
}
