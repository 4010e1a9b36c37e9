// Ties the pages together: the token on every request that changes something, plots, and questions before danger. No other origin.
"use strict";

document.documentElement.classList.add("script");

document.addEventListener("htmx:configRequest", (event) => {
  const token = document.querySelector('meta[name="csrf-token"]');
  if (token && event.detail.verb !== "get") event.detail.headers["X-CSRF-Token"] = token.content;
});

// an answer with an error code is shown where the result would have been
document.addEventListener("htmx:beforeSwap", (event) => {
  const answer = event.detail.xhr;
  if (answer.status < 400) return;
  let problem = null;
  try { problem = JSON.parse(answer.responseText); } catch { return; }
  if (!problem.code) return;
  const box = document.createElement("div");
  box.className = "problem";
  box.setAttribute("role", "alert");
  const title = document.createElement("b");
  title.textContent = problem.title;
  const hint = document.createElement("p");
  hint.textContent = problem.detail;
  const code = document.createElement("code");
  code.textContent = problem.code;
  box.append(title, hint, code);
  event.detail.shouldSwap = true;
  event.detail.isError = false;
  event.detail.serverResponse = box.outerHTML;
});

document.addEventListener("submit", (event) => {
  const question = event.target.dataset && event.target.dataset.ask;
  if (question && !window.confirm(question)) event.preventDefault();
});

document.addEventListener("change", (event) => {
  if (!event.target.matches("[data-all]")) return;
  for (const box of event.target.closest("form").querySelectorAll('input[name="pick"]')) box.checked = event.target.checked;
});

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-now]")) event.target.form.requestSubmit();
});

// a text that stands in a field is copied by a button, where the browser allows it (a secure context)
if (navigator.clipboard) {
  for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
  document.addEventListener("click", async (event) => {
    const button = event.target.closest && event.target.closest("[data-copy]");
    if (!button) return;
    const field = button.closest("details").querySelector("[data-copied]");
    try { await navigator.clipboard.writeText(field.value); } catch { field.focus(); field.select(); return; }
    button.textContent = button.dataset.done;
  });
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// light-dark() is not resolved inside a custom property: ask the browser for the used value
function used(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

function plot(holder) {
  if (!window.uPlot || holder.dataset.drawn) return;
  const source = document.getElementById(holder.dataset.plot);
  if (!source) return;
  const curve = JSON.parse(source.textContent);
  const columns = [[], [], [], []];
  for (const [at, mean, least, most] of curve.points) {
    columns[0].push(at); columns[1].push(mean); columns[2].push(least); columns[3].push(most);
  }
  if (columns[0].length < 2) return;
  holder.dataset.drawn = "yes";
  const words = JSON.parse(holder.dataset.words);
  const line = used("--c1"), soft = used("--line"), ink = used("--ink-2"), warn = used("--warn");
  const zh = document.documentElement.lang.startsWith("zh");
  const still = holder.querySelector("svg");
  const shade = (u) => {
    const { ctx, bbox } = u;
    ctx.save();
    for (const gap of curve.gaps) {
      const left = Math.max(bbox.left, u.valToPos(gap.start, "x", true));
      const right = Math.min(bbox.left + bbox.width, u.valToPos(gap.end, "x", true));
      if (right < bbox.left || left > bbox.left + bbox.width) continue;
      ctx.fillStyle = soft;
      ctx.fillRect(left, bbox.top, Math.max(right - left, 2), bbox.height);
    }
    for (const stretch of curve.marks || []) {
      const left = u.valToPos(stretch.start, "x", true), right = u.valToPos(stretch.end, "x", true);
      ctx.fillStyle = warn;
      ctx.fillRect(left, bbox.top + bbox.height - 4, Math.max(right - left, 3), 4);
    }
    ctx.restore();
  };
  const clock = (u, ticks, axis, space, step) => ticks.map((at) => {
    const when = new Date(at * 1000);
    const time = when.toLocaleTimeString(zh ? "zh-CN" : "en-GB");
    const date = zh ? `${when.getMonth() + 1} 月 ${when.getDate()} 日` : when.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
    return step >= 86400 ? date : time;
  });
  const digits = (u, value) => value === null || value === undefined ? "–" : Number(value.toPrecision(6)).toLocaleString(zh ? "zh-CN" : "en-GB", { maximumSignificantDigits: 6 });
  const options = {
    width: holder.clientWidth,
    height: 300,
    cursor: { drag: { x: true, y: false } },
    scales: { x: { time: true } },
    hooks: { drawClear: [shade] },
    axes: [
      { stroke: ink, grid: { stroke: soft, width: 1 }, ticks: { stroke: soft }, values: clock },
      { stroke: ink, grid: { stroke: soft, width: 1 }, ticks: { stroke: soft }, size: 70, label: holder.dataset.unit || undefined, labelSize: 20 },
    ],
    bands: [{ series: [3, 2], fill: line.replace("rgb(", "rgba(").replace(")", ", 0.16)") }],
    series: [
      { label: words.time, value: (u, at) => at === null ? "–" : new Date(at * 1000).toLocaleString(zh ? "zh-CN" : "en-GB") },
      { label: words.mean, stroke: line, width: 1.6, spanGaps: false, points: { show: curve.points.length < 120 }, value: digits },
      { label: words.least, stroke: "transparent", spanGaps: false, points: { show: false }, value: digits },
      { label: words.most, stroke: "transparent", spanGaps: false, points: { show: false }, value: digits },
    ],
  };
  if (still) still.remove();
  const drawn = new window.uPlot(options, columns, holder);
  // zooming in asks for the same stretch again, at the resolution it deserves
  holder.addEventListener("mouseup", () => {
    window.setTimeout(() => {
      const { min, max } = drawn.scales.x;
      const form = document.getElementById("window");
      if (!form || max - min >= (columns[0].at(-1) - columns[0][0]) * 0.98) return;
      form.querySelector('[name="from"]').value = new Date(min * 1000).toISOString();
      form.querySelector('[name="to"]').value = new Date(max * 1000).toISOString();
    }, 50);
  });
  new ResizeObserver(() => drawn.setSize({ width: holder.clientWidth, height: 300 })).observe(holder);
}

function dress() {
  for (const holder of document.querySelectorAll("[data-plot]")) plot(holder);
}

document.addEventListener("DOMContentLoaded", dress);
document.addEventListener("htmx:afterSettle", dress);

// the line at the top says whether live values still come
document.addEventListener("htmx:sseOpen", () => mark(true));
document.addEventListener("htmx:sseError", () => mark(false));
document.addEventListener("htmx:sseClose", () => mark(false));
function mark(on) {
  const tag = document.getElementById("live");
  if (!tag) return;
  tag.className = on ? "tag ok live" : "tag";
  tag.querySelector(".word").textContent = on ? tag.dataset.on : tag.dataset.off;
  tag.querySelector(".dot").textContent = on ? "●" : "○";
}
