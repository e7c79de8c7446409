/** The hardware page: what the server runs on, and why it runs as it does. */

import type { ComponentChildren, VNode } from "preact";
import { useEffect } from "preact/hooks";
import { decide, origins, refreshSystem, system, systemProblem } from "../server.js";
import { size } from "../size.js";
import type { Candidate, SystemInfo } from "../system-info.js";

export function SystemView(): VNode {
  useEffect(() => void refreshSystem(), []);
  const info = system.value;
  return (
    <main class="system" aria-busy={info === null}>
      <header>
        <h2>Hardware</h2>
        {info && <small>TabAgent {info.version}</small>}
        <button type="button" onClick={() => void refreshSystem()}>
          Look again
        </button>
      </header>
      {systemProblem.value && (
        <p class="bad" role="alert">
          {systemProblem.value}
        </p>
      )}
      {info && (
        <div class="cards">
          <Processor cpu={info.cpu} threads={info.threads} />
          <Memory memory={info.memory} />
          <Graphics info={info} />
          <Runtime info={info} />
          <Parts name="Backends" parts={info.backends} />
          <Parts name="Transports" parts={info.transports} />
          <Approved />
          <Candidates candidates={info.candidates} runtime={info.runtime} />
        </div>
      )}
    </main>
  );
}

interface CardProps {
  name: string;
  wide?: boolean;
  children: ComponentChildren;
}

function Card({ name, wide = false, children }: CardProps): VNode {
  return (
    <section class={wide ? "card wide" : "card"} aria-label={name}>
      <h3>{name}</h3>
      {children}
    </section>
  );
}

function Processor({ cpu, threads }: Pick<SystemInfo, "cpu" | "threads">): VNode {
  return (
    <Card name="Processor">
      {cpu ? (
        <>
          <p class="big">
            {cpu.name ?? cpu.vendor} <small>{cpu.microarchitecture}</small>
          </p>
          <p>
            {cpu.kinds.length > 1
              ? cpu.kinds.map(({ kind, cores }) => `${cores} ${kind}`).join(" + ")
              : cpu.cores}{" "}
            cores, {cpu.threads} threads
            {cpu.quota !== null && `, a quota of ${cpu.quota} processors`}
          </p>
          {threads && (
            <p>
              Computes with {threads.count}: {threads.reason}
            </p>
          )}
          <p>
            {cpu.caches
              .filter(({ purpose }) => purpose !== "instruction")
              .map(
                ({ level, bytes, count }) =>
                  `L${level} ${count > 1 ? `${count}×` : ""}${size(bytes)}`,
              )
              .join(", ")}
          </p>
          <p class="chips">
            {cpu.flags.map((flag) => (
              <code key={flag}>{flag}</code>
            ))}
          </p>
        </>
      ) : (
        <p>unknown</p>
      )}
    </Card>
  );
}

function Memory({ memory }: Pick<SystemInfo, "memory">): VNode {
  const used = memory ? memory.total - memory.available : 0;
  return (
    <Card name="Memory">
      {memory ? (
        <>
          <p class="big">{size(memory.available)} free</p>
          <meter value={used} max={memory.total} aria-label="Memory in use" />
          <p>
            {size(used)} of {size(memory.total)} in use
            {memory.limit !== null && ", the limit of the control group"}
          </p>
        </>
      ) : (
        <p>unknown</p>
      )}
    </Card>
  );
}

function Graphics({ info: { gpus, gpu_runtimes } }: { info: SystemInfo }): VNode {
  const usable = gpu_runtimes.filter(({ devices }) => devices.length > 0);
  return (
    <Card name="Graphics">
      {gpus.length + usable.length === 0 && (
        <p>None that can be used: the processor does the work.</p>
      )}
      {gpus.map((gpu, index) => (
        <p key={index}>
          {gpu.name}
          {gpu.memory !== null && `, ${size(gpu.memory)}`}{" "}
          <small>{gpu.driver ?? "no driver"}</small>
        </p>
      ))}
      {usable.map(({ id, devices }) => (
        <p key={id}>
          {id} can use {devices.map(({ description }) => description).join(", ")}.
        </p>
      ))}
    </Card>
  );
}

function Runtime({ info: { runtime, advice } }: { info: SystemInfo }): VNode {
  return (
    <Card name="Runtime">
      {runtime ? (
        <>
          <p class="big">
            {runtime.id} {runtime.version} <small>{runtime.variant}</small>
          </p>
          <p>{runtime.reason}</p>
          <p class="path">{runtime.path}</p>
          {advice.map(({ text, gains }) => (
            <p key={text}>
              {text}:{" "}
              {gains
                .map(({ weights, prompt, generation }) =>
                  generation === null
                    ? `${weights} prompts ${prompt}×`
                    : `${weights} prompts ${prompt}×, generation ${generation}×`,
                )
                .join("; ")}
            </p>
          ))}
        </>
      ) : (
        <p>None was found: run “tabagent runtime install”.</p>
      )}
    </Card>
  );
}

interface Part {
  name: string;
  works: boolean;
  reason: string;
  version?: string | null;
}

function Parts({ name, parts }: { name: string; parts: Part[] }): VNode {
  return (
    <Card name={name}>
      <ul class="parts">
        {parts.map((part) => (
          <li key={part.name}>
            <span class="dot" data-state={part.works ? "ready" : "failed"} />
            <b>{part.name}</b> <small>{part.works ? part.version : part.reason}</small>
            <span class="unseen">{part.works ? "works" : "does not work"}</span>
          </li>
        ))}
      </ul>
    </Card>
  );
}

function Approved(): VNode | null {
  if (!origins.value) return null;
  const { approved } = origins.value;
  return (
    <Card name="Access">
      {approved.length === 0 && <p>No extension or page has been approved.</p>}
      <ul class="parts">
        {approved.map(({ origin, by }) => (
          <li key={origin}>
            <span class="break">{origin}</span>
            {by === "user" ? (
              <button
                type="button"
                class="quiet"
                aria-label={`Revoke ${origin}`}
                onClick={() => void decide("revoke", origin)}
              >
                Revoke
              </button>
            ) : (
              <small>by {by === "host" ? "the native host" : "a setting"}</small>
            )}
          </li>
        ))}
      </ul>
    </Card>
  );
}

function Candidates({ candidates, runtime }: Pick<SystemInfo, "candidates" | "runtime">): VNode {
  const isTaken = ({ path, variant }: Candidate) =>
    path === runtime?.path && variant === runtime.variant;
  return (
    <Card name="Runtimes that were found" wide>
      <section class="table" tabIndex={0} aria-label="Runtimes that were found">
        <table>
          <thead>
            <tr>
              <th>Runtime</th>
              <th>Built for</th>
              <th data-align="right">Score</th>
              <th>Why</th>
            </tr>
          </thead>
          <tbody>
            {candidates.map((candidate) => (
              <tr
                key={`${candidate.path} ${candidate.variant}`}
                data-allowed={candidate.allowed}
                aria-current={isTaken(candidate) || undefined}
              >
                <td>
                  {candidate.id} {candidate.version}
                </td>
                <td>{candidate.variant}</td>
                <td data-align="right">{candidate.allowed ? candidate.score : "–"}</td>
                <td>{candidate.reason}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </section>
    </Card>
  );
}
