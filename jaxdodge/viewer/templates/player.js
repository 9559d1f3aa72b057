/* Playing: the present time, the controls, and one picture per animation frame. */
const episodes = DATA.episodes.map(readEpisode), SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4, 8];
const turn = {round: 0, up: 0};
let episode = episodes[0], time = 0, playing = false, before = null, filled = -1;

function stateAt(t) {
  let low = 0, high = episode.seconds.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (episode.seconds[middle] <= t + 1e-6) low = middle; else high = middle - 1;
  }
  return low;
}

const duration = () => episode.seconds[episode.seconds.length - 1];

function show() {
  const state = stateAt(time), from = episode.seconds[state], to = episode.seconds[Math.min(state + 1, episode.seconds.length - 1)];
  const share = to > from ? Math.min(1, (time - from) / (to - from)) : 0;
  const shown = between(episode.track, state, share), past = trails(episode, episode.track, state, shown);
  const other = episode.simulated && between(episode.simulated, state, share), ended = episode.ended[state];
  drawArena(by("perspective"), shown, null, past, false, turn, ended);
  if (other) drawArena(by("perspective2"), other, null, trails(episode, episode.simulated, state, other), false, turn, 0);
  drawArena(by("above"), shown, other, past, true, turn, ended);
  drawTimeline(episode, time);
  by("clock").textContent = `${time.toFixed(2)} of ${duration().toFixed(2)} s`;
  if (filled !== state) { fillCards(episode, state); fillObserved(episode, state); filled = state; }
}

function tick(now) {
  if (playing) {
    time += (before === null ? 0 : (now - before) / 1000) * Number(by("speed").value);
    before = now;
    if (time >= duration()) { time = duration(); play(false); }
    show();
    if (playing) requestAnimationFrame(tick);
  }
}

function play(on) {
  if (on && time >= duration()) time = 0;
  playing = on; before = null;
  by("play").textContent = on ? "❚❚" : "▶";
  if (on) requestAnimationFrame(tick);
}

function seek(t) { time = Math.max(0, Math.min(duration(), t)); show(); }

function step(by) {
  play(false);
  const state = stateAt(time), exact = Math.abs(episode.seconds[state] - time) < 1e-6;
  seek(episode.seconds[Math.max(0, Math.min(episode.seconds.length - 1, state + (by < 0 && !exact ? 0 : by)))]);
}

function choose(index) {
  episode = episodes[index]; filled = -1; play(false);
  [...by("episodes").children].forEach((button, each) => button.setAttribute("aria-pressed", each === index));
  by("second").hidden = !episode.simulated;
  by("side0").textContent = episode.simulated ? DATA.sides[0] : "";
  by("side1").textContent = episode.simulated ? DATA.sides[1] : "";
  by("marks").textContent = episode.marks.map(([state, text]) => `First difference, at ${episode.seconds[state].toFixed(2)} s: ${text}`).join("\n");
  seek(episode.marks.length ? episode.seconds[episode.marks[0][0]] : 0);
}

episodes.forEach((each, index) => {
  const button = made(by("episodes"), "button"), end = each.ended[each.ended.length - 1];
  button.append(each.name);
  const facts = made(button, "small", `return ${each.total[each.total.length - 1].toFixed(1)} · ${each.reward.length - 1} steps `);
  if (end) made(facts, "span", end === 1 ? "· hit" : "· survived", end === 1 ? "hit" : "survived");
  button.onclick = () => choose(index);
});
for (const speed of SPEEDS) {
  const option = made(by("speed"), "option", `${speed}×`);
  option.value = speed; option.selected = speed === 1;
}
by("play").onclick = () => play(!playing);
by("back").onclick = () => step(-1);
by("next").onclick = () => step(1);
by("first").onclick = () => { play(false); seek(0); };
document.addEventListener("keydown", event => {
  if (event.target.tagName === "SELECT") return;
  const keys = {" ": () => play(!playing), ArrowLeft: () => step(-1), ArrowRight: () => step(1),
    Home: () => { play(false); seek(0); }, End: () => { play(false); seek(duration()); }};
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});

function dragged(canvas, moved) {
  let last = null;
  canvas.addEventListener("pointerdown", event => { last = event; canvas.setPointerCapture(event.pointerId); moved(event, event); });
  canvas.addEventListener("pointermove", event => { if (last) { moved(event, last); last = event; } });
  canvas.addEventListener("pointerup", () => { last = null; });
  canvas.addEventListener("pointercancel", () => { last = null; });
}
dragged(by("timeline"), event => {
  const box = by("timeline").getBoundingClientRect();
  play(false); seek(duration() * (event.clientX - box.left - 4) / (box.width - 8));
});
for (const canvas of [by("perspective"), by("perspective2")]) {
  dragged(canvas, (event, last) => {
    turn.round -= (event.clientX - last.clientX) / 200; turn.up += (event.clientY - last.clientY) / 300; show();
  });
  canvas.ondblclick = () => { turn.round = turn.up = 0; show(); };
}
window.addEventListener("resize", show);
prepareObserved();
choose(0);
/* page.html#t=12.5 opens at that time, paused. */
const asked = location.hash.match(/t=([\d.]+)/);
if (asked) seek(Number(asked[1])); else play(!episode.marks.length);
