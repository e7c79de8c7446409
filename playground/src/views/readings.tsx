/** The instruments: time to first token, speed, round trip, and the gaps between tokens. */

import type { VNode } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { measurement, speed } from "../chat.js";
import { median } from "../meter.js";
import { roundTrip } from "../server.js";
import { isDark } from "../settings.js";

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

/** Shows a bar for each gap, in their order; the longest one stands out. */
function GapPlot({ gaps }: { gaps: readonly number[] }): VNode {
  const canvas = useRef<HTMLCanvasElement>(null);
  const scheme = isDark.value;
  useLayoutEffect(() => {
    if (canvas.current) draw(canvas.current, gaps);
  }, [gaps, scheme]);
  return <canvas ref={canvas} role="img" aria-label="Plot of the gaps between tokens" />;
}

function draw(canvas: HTMLCanvasElement, gaps: readonly number[]): void {
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = Math.round(width * devicePixelRatio);
  canvas.height = Math.round(height * devicePixelRatio);
  const context = canvas.getContext("2d");
  if (!context) return;
  context.scale(devicePixelRatio, devicePixelRatio);
  const { color, outlineColor } = getComputedStyle(canvas);
  const shown = gaps.slice(-Math.floor(width / BAR));
  const longest = Math.max(...shown);
  const scale = height / Math.max(longest, LOWEST_SCALE);
  shown.forEach((gap, index) => {
    const bar = Math.max(gap * scale, 1);
    context.fillStyle = gap === longest && longest > LOWEST_SCALE ? outlineColor : color;
    context.fillRect(index * BAR, height - bar, BAR - 1, bar);
  });
}
