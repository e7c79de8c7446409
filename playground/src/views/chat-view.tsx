/** The conversation and where it is written. */

import { useSignal, useSignalEffect } from "@preact/signals";
import type { VNode } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Answer, announcement, ask, askAgain, running, turns } from "../chat.js";
import { CodeBlock, Markdown } from "../markdown/markdown.js";
import { answeringModel } from "../server.js";
import { change } from "../settings.js";
import { Composer } from "./composer.js";
import { CopyButton } from "./copy-button.js";
import { Icon } from "./icons.js";
import { Readings } from "./readings.js";

/** Pixels from the end within which the reader is taken to follow it. */
const NEAR = 48;

export function ChatView(): VNode {
  return (
    <main class="chat">
      <Conversation />
      <div class="bottom">
        <Composer />
        <Readings />
      </div>
      <p class="unseen" role="status" id="announcement">
        {announcement.value}
      </p>
    </main>
  );
}

function Conversation(): VNode {
  const scroller = useRef<HTMLDivElement>(null);
  const follows = useSignal(true);
  const lastTop = useRef(0);
  const toEnd = () => {
    const element = scroller.current;
    if (element) element.scrollTop = element.scrollHeight;
  };

  useSignalEffect(() => {
    if (turns.value.at(-1) === running.value) follows.value = true; // it has just been asked
  });
  useEffect(() => {
    const observer = new ResizeObserver(() => {
      if (follows.peek()) toEnd();
    });
    const content = scroller.current?.firstElementChild;
    if (content) observer.observe(content);
    return () => observer.disconnect();
  }, [follows]);

  const look = () => {
    const element = scroller.current;
    if (!element) return;
    const { scrollHeight, scrollTop, clientHeight } = element;
    if (scrollHeight - scrollTop - clientHeight < NEAR) follows.value = true;
    else if (scrollTop < lastTop.current) follows.value = false; // text that comes moves no one up
    lastTop.current = scrollTop;
  };

  return (
    <div
      class="scroller"
      ref={scroller}
      onScroll={look}
      tabIndex={0}
      role="log"
      aria-label="Conversation"
      aria-live="off"
    >
      <div class="turns">
        {turns.value.length === 0 ? <Welcome /> : null}
        {turns.value.map((turn, index) =>
          turn instanceof Answer ? (
            <AnswerView key={index} answer={turn} isLast={index === turns.value.length - 1} />
          ) : (
            <article key={index} class="turn user" aria-label="You">
              {turn.text}
            </article>
          ),
        )}
      </div>
      {!follows.value && turns.value.length > 0 && (
        <button type="button" class="to-end" aria-label="To the end" onClick={toEnd}>
          <Icon name="down" />
        </button>
      )}
    </div>
  );
}

function AnswerView({ answer, isLast }: { answer: Answer; isLast: boolean }): VNode {
  const text = answer.shown.value;
  const isBusy = answer.isBusy.value;
  return (
    <article class="turn assistant" aria-busy={isBusy} aria-label="Answer">
      {answer.isJson && text ? (
        <CodeBlock language="json" text={text} />
      ) : (
        <Markdown blocks={answer.blocks.value} />
      )}
      <Waiting answer={answer} />
      <FailureView answer={answer} />
      {!isBusy && (
        <footer>
          <small class="note">{answer.note.value}</small>
          {text && <CopyButton text={text} what="answer" />}
          {isLast && (
            <button type="button" class="quiet" onClick={() => void askAgain()}>
              <Icon name="again" /> Ask again
            </button>
          )}
        </footer>
      )}
    </article>
  );
}

function Waiting({ answer }: { answer: Answer }): VNode | null {
  const progress = answer.progress.value;
  if (!progress) return null;
  return (
    <div class="waiting">
      <span>{progress.text}</span>
      {progress.part !== null && <progress value={progress.part} aria-label={progress.text} />}
    </div>
  );
}

function FailureView({ answer }: { answer: Answer }): VNode | null {
  const failure = answer.failure.value;
  if (!failure) return null;
  const { message, code, param } = failure;
  const withoutSchema = () => {
    change({ usesSchema: false });
    void askAgain();
  };
  return (
    <div class="failure" role="alert">
      <p>{message}</p>
      <p>
        {code && <code>{code}</code>} {param && <code>{param}</code>}
      </p>
      {param === "text.format" && (
        <button type="button" onClick={withoutSchema}>
          Ask without the schema
        </button>
      )}
    </div>
  );
}

const SUGGESTIONS = {
  guide: [
    "What is TabAgent?",
    "How do I connect from an extension?",
    "How do I use my own model?",
    "Which transports are there?",
  ],
  others: [
    "Explain how a transformer picks its next token.",
    "Write a haiku about a computer that works offline.",
    "Show a binary search in Python, with comments.",
    "Compare TCP and UDP in a table.",
  ],
};

function Welcome(): VNode {
  const kind = answeringModel()?.id === "tabagent-guide" ? "guide" : "others";
  return (
    <section class="welcome">
      <img src="/icon.svg" alt="" width="52" height="52" />
      <h2>Ask your own machine</h2>
      <p>What you write goes to this server and nowhere else.</p>
      <ul>
        {SUGGESTIONS[kind].map((text) => (
          <li key={text}>
            <button type="button" onClick={() => void ask(text)}>
              {text}
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}
