/* Playing: the keys that are held go to the server, and each state that it sends is drawn. */
const by = id => document.getElementById(id);
const NAMES = {
  ArrowLeft: "left", KeyA: "left", ArrowRight: "right", KeyD: "right", ArrowUp: "up", KeyW: "up",
  ArrowDown: "down", KeyS: "down", ShiftLeft: "sprint", ShiftRight: "sprint", Space: "jump", KeyR: "restart",
};
const PAD = [["sprint", "sprint"], ["up", "▲"], ["jump", "jump"], ["left", "◀"], ["down", "▼"], ["right", "▶"]];
const held = new Map(), cards = {}, turn = {round: 0, up: 0};
let best = 0, state = null, sent = "", arrivals = [];

function send() {
  const names = [...new Set(held.values())].join(" ");
  document.querySelectorAll("#pad button").forEach(button => button.classList.toggle("held", names.split(" ").includes(button.dataset.name)));
  if (names === sent) return;
  sent = names;
  fetch("/keys", {method: "POST", body: names, keepalive: true}).catch(() => {});
}

document.addEventListener("keydown", event => {
  const name = NAMES[event.code];
  if (!name || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault(); held.set(event.code, name); send();
});
document.addEventListener("keyup", event => { if (held.delete(event.code)) send(); });
window.addEventListener("blur", () => { held.clear(); send(); });

for (const [name, text] of PAD) {
  const button = document.createElement("button");
  button.textContent = text; button.dataset.name = name; button.tabIndex = -1;
  button.addEventListener("pointerdown", event => { event.preventDefault(); held.set(name, name); send(); });
  for (const end of ["pointerup", "pointerleave", "pointercancel"]) button.addEventListener(end, () => { if (held.delete(name)) send(); });
  by("pad").append(button);
}
for (const name of ["return", "best", "seconds", "nearest", "fps", "state"]) {
  const card = document.createElement("div"), label = document.createElement("span"), value = document.createElement("b");
  card.className = "card"; label.textContent = name; card.append(label, value); by("cards").append(card); cards[name] = value;
}

function draw() {
  requestAnimationFrame(draw);
  if (!state) return;
  const shown = {player: state.player, throwers: state.throwers, projectiles: state.projectiles.map((at, id) => ({id, at}))};
  drawArena(by("perspective"), shown, null, null, false, turn, state.ended);
  drawArena(by("above"), shown, null, null, true, turn, state.ended);
  const nearest = Math.min(...state.projectiles.map(at => Math.hypot(...[0, 1, 2].map(k => at[k] - state.player[k]))));
  cards["return"].textContent = state.total.toFixed(1);
  cards["best"].textContent = best.toFixed(1);
  cards["seconds"].textContent = state.seconds.toFixed(1);
  cards["nearest"].textContent = Number.isFinite(nearest) ? `${nearest.toFixed(1)} m` : "–";
  cards["fps"].textContent = arrivals.length;
  cards["state"].textContent = ["playing", "hit", "survived"][state.ended];
}

const source = new EventSource("/states");
source.onmessage = event => {
  const found = JSON.parse(event.data), now = performance.now();
  if (found.busy) { source.close(); cards["state"].textContent = "in another tab"; return; }
  state = found; best = Math.max(best, state.total);
  arrivals.push(now); arrivals = arrivals.filter(at => at > now - 1000);
};
source.onerror = () => { cards["state"].textContent = "stopped"; source.close(); };
draw();
