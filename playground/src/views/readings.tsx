/** The instruments: time to first token, speed, round trip, and the gaps between tokens. */

import type { VNode } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { measurement, speed } from "../chat.js";
import { median } from "../meter.js";
import { roundTrip } from "../server.js";

export function Readings(): VNode {
  const { firstToken, rate, gaps, tokens } = measurement.value;
  return (
    <dl class="readings" aria-label="Measurements">
      <Reading id="first-token" name="First token" value={time(firstToken)} unit="ms" />
      <Reading id="speed" name="Speed" value={rate === null ? null : speed(rate)} unit="tokens/s" />
      <Reading id="tokens" name="Tokens" value={tokens > 0 ? tokens.toLocaleString("en") : null} />
      <Reading id="round-trip" name="Round trip" value={time(roundTrip.value)} unit="ms" />
      <div class="reading gaps">
        <dt>
          <span>Gaps</span>
          {gaps.length > 0 && (
            <span id="gaps">
              median {time(median(gaps))} · longest {time(Math.max(...gaps))} ms
            </span>
          )}
        </dt>
        <dd>
          <GapPlot gaps={gaps} />
        </dd>
      </div>
    </dl>
  );
}

interface ReadingProps {
  id: string;
  name: string;
  value: string | null;
  unit?: string;
}

function Reading({ id, name, value, unit }: ReadingProps): VNode {
  return (
    <div class="reading">
      <dt>{name}</dt>
      <dd id={id}>
        {value ?? "–"}
        {value !== null && unit && <small> {unit}</small>}
      </dd>
    </div>
  );
}

/** Returns milliseconds with as many digits as mean anything. */
function time(milliseconds: number | null): string | null {
  if (milliseconds === null) return null;
  return milliseconds < 10
    ? milliseconds.toFixed(1)
    : Math.round(milliseconds).toLocaleString("en");
}

const BAR = 3; // CSS pixels, the space beside it included
const LOWEST_SCALE = 20; // milliseconds: what is shorter than a frame does not look like a gap

/** Draws a bar for each gap, the latest at the right; the longest one stands out. */
function GapPlot({ gaps }: { gaps: readonly number[] }): VNode {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    if (canvas.current) draw(canvas.current, gaps);
  });
  return <canvas ref={canvas} role="img" aria-label="Plot of the gaps between tokens" />;
}

function draw(canvas: HTMLCanvasElement, gaps: readonly number[]): void {
  const { clientWidth: width, clientHeight: height } = canvas;
  const density = devicePixelRatio;
  canvas.width = Math.round(width * density);
  canvas.height = Math.round(height * density);
  const context = canvas.getContext("2d");
  if (!context) return;
  context.scale(density, density);
  const style = getComputedStyle(canvas);
  const shown = gaps.slice(-Math.floor(width / BAR));
  const longest = Math.max(...shown);
  const scale = (height - 2) / Math.max(longest, LOWEST_SCALE);
  context.fillStyle = style.borderBottomColor;
  context.fillRect(0, height - 1, width, 1);
  shown.forEach((gap, index) => {
    const bar = Math.max(gap * scale, 1);
    const isLongest = gap === longest && longest > LOWEST_SCALE;
    context.fillStyle = isLongest ? style.outlineColor : style.color;
    context.fillRect(width - (shown.length - index) * BAR, height - 1 - bar, BAR - 1, bar);
  });
}
