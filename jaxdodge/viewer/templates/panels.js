/* What is beside the arena: figures, what the policy observes, and the line of time. */
const by = id => document.getElementById(id);
const fixed = (value, digits) => Number.isFinite(value) ? value.toFixed(digits) : "–";

function made(parent, tag, text, name) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  parent.append(element);
  return element;
}

/* Cards are made once and then only filled. */
const cards = {};
for (const name of ["step", "time", "nearest", "reward", "return", "projectiles"]) {
  const card = made(by("cards"), "div", undefined, "card");
  made(card, "span", name); cards[name] = made(card, "b");
}
const bars = [];
if (DATA.actions.length) {
  const card = made(by("cards"), "div", undefined, "card wide");
  made(card, "span", "action");
  const grid = made(card, "div", undefined, "bars");
  for (const name of DATA.actions) {
    made(grid, "label", name);
    bars.push({fill: made(made(grid, "div", undefined, "bar"), "i"), value: made(grid, "b")});
  }
}

function fillCards(episode, state) {
  const near = episode.nearest[state];
  cards.step.textContent = `${state} / ${episode.reward.length - 1}`;
  cards.time.textContent = `${fixed(episode.seconds[state], 2)} s`;
  cards.nearest.textContent = near < 0 ? "–" : `${fixed(near, 2)} m`;
  cards.reward.textContent = fixed(episode.reward[state], 2);
  cards.return.textContent = fixed(episode.total[state], 1);
  cards.projectiles.textContent = episode.track[state].projectiles.length;
  bars.forEach((bar, index) => {
    const value = episode.action[state * bars.length + index], known = Number.isFinite(value);
    bar.fill.style.left = `${50 + 50 * Math.min(0, known ? value : 0)}%`;
    bar.fill.style.width = `${50 * Math.abs(known ? value : 0)}%`;
    bar.value.textContent = fixed(value, 2);
  });
}

/* What is observed: the images of the stack, drawn from the recorded discs as the game draws them. */
const IMAGES = DATA.images, STACK = DATA.frame_stack;
const background = IMAGES && decoded(IMAGES.background, Uint8Array), channels = IMAGES && (IMAGES.grayscale ? 1 : 3);

function imageOf(discs, state) {
  const {width, height} = IMAGES, image = background.slice();
  IMAGES.layers.forEach(({slots, offsets, colour}, layer) => {
    const centres = discs[IMAGES.order[layer]], start = state * 2 * slots;
    for (let slot = 0; slot < slots; slot++) {
      const column = centres[start + slot], row = centres[start + slots + slot];
      for (const [down, right] of offsets) {
        const y = row + down, x = column + right;
        if (y >= 0 && y < height && x >= 0 && x < width) image.set(colour, (y * width + x) * channels);
      }
    }
  });
  return image;
}

/* Means over blocks of pixels, rounded, halves up. */
function averaged(image) {
  const side = IMAGES.squint, width = IMAGES.width / side, height = IMAGES.height / side;
  const result = new Uint8Array(width * height * channels), area = side * side;
  for (let row = 0; row < height; row++) for (let column = 0; column < width; column++) for (let c = 0; c < channels; c++) {
    let sum = 0;
    for (let y = 0; y < side; y++) for (let x = 0; x < side; x++) {
      sum += image[((row * side + y) * IMAGES.width + column * side + x) * channels + c];
    }
    result[(row * width + column) * channels + c] = Math.floor((2 * sum + area) / (2 * area));
  }
  return result;
}

function drawObserved(episode, state) {
  for (let index = 0; index < STACK; index++) {
    const canvas = by("images").children[index], at = state - (STACK - 1 - index);
    const side = IMAGES.squint, width = IMAGES.width / side, height = IMAGES.height / side;
    canvas.width = width; canvas.height = height;
    const pixels = new ImageData(width, height), image = at < 0 ? null : averaged(imageOf(episode.discs, at));
    for (let i = 0; i < width * height; i++) {
      for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = image ? image[i * channels + (channels === 3 ? c : 0)] : 0;
      pixels.data[4 * i + 3] = 255;
    }
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  }
}

/* Of vectors: the numbers, the player's first; the nearest projectile is bright. */
function fillNumbers(episode, state) {
  const {player, projectiles, throwers} = episode.track[state], table = by("numbers");
  if (!table.rows.length) {
    const head = made(made(table, "thead"), "tr");
    for (const name of ["", "x", "y", "z", "vx", "vy", "vz"]) made(head, "th", name);
    const body = made(table, "tbody");
    for (let row = 0; row < 12; row++) {
      const line = made(body, "tr");
      made(line, "th", row === 0 ? "player" : row === 11 ? "indicator" : `projectile ${row}`);
      for (let k = 0; k < 6; k++) made(line, "td");
    }
  }
  const distance = at => Math.hypot(...[0, 1, 2].map(k => at[k] - player[k]));
  const least = Math.min(...projectiles.slice(0, 10).map(each => distance(each.at)));
  const rows = table.tBodies[0].rows;
  for (let row = 0; row < 12; row++) {
    const each = row && projectiles[row - 1];
    const numbers = row === 0 ? player : row === 11 ? throwers[0] || [] : each ? each.at : [];
    rows[row].className = row === 0 ? "own" : each && row < 11 && distance(each.at) === least ? "next" : "";
    rows[row].hidden = row === 11 && !throwers.length;
    for (let k = 0; k < 6; k++) rows[row].cells[k + 1].textContent = k < numbers.length ? numbers[k].toFixed(2) : row ? "0" : "";
  }
}

function fillObserved(episode, state) {
  if (IMAGES) drawObserved(episode, state); else fillNumbers(episode, state);
}

function prepareObserved() {
  const recorded = DATA.episodes[0].simulated || DATA.observed === "every frame";
  by("seenTitle").textContent = `${recorded ? "Recorded" : "What the policy sees"}: ${DATA.observed}`;
  if (IMAGES) for (let index = 0; index < STACK; index++) {
    made(by("images"), "canvas").style.aspectRatio = `${IMAGES.width} / ${IMAGES.height}`;
  }
}

/* The line of time: distance of the nearest projectile, reward, ends, marks and the present. */
function drawTimeline(episode, time) {
  const {context, width, height} = fitted(by("timeline"));
  const seconds = episode.seconds, last = seconds[seconds.length - 1] || 1, x = t => 4 + (width - 8) * t / last;
  const farthest = 8, y = distance => 6 + (height - 12) * (1 - Math.min(distance, farthest) / farthest);
  context.strokeStyle = "#5b6380"; context.setLineDash([3, 4]); context.beginPath();
  context.moveTo(0, y(DATA.bonus_distance)); context.lineTo(width, y(DATA.bonus_distance)); context.stroke(); context.setLineDash([]);
  context.beginPath(); context.moveTo(x(0), height);
  const near = state => episode.nearest[state] < 0 ? farthest : episode.nearest[state];
  for (let state = 0; state < seconds.length; state++) context.lineTo(x(seconds[state]), y(near(state)));
  context.lineTo(x(last), height); context.closePath(); context.fillStyle = "rgba(76,157,255,0.22)"; context.fill();
  context.strokeStyle = "#4c9dff"; context.lineWidth = 1; context.stroke();
  const ordinary = [...episode.reward.slice(1)].sort((a, b) => a - b)[episode.reward.length >> 1];
  const most = Math.max(1e-9, ...episode.reward.map(reward => reward - ordinary));
  context.fillStyle = "#e0cc4a";
  for (let state = 1; state < seconds.length; state++) {
    const size = 0.6 * height * Math.max(0, episode.reward[state] - ordinary) / most;
    if (size > 0.01 * height) context.fillRect(x(seconds[state]) - 0.75, height - size, 1.5, size);
  }
  const flags = [...episode.marks.map(([state]) => [state, "#ff5a52"])];
  episode.ended.forEach((end, state) => { if (end) flags.push([state, end === 1 ? "#ff5a52" : "#4fd8c4"]); });
  for (const [state, colour] of flags) { context.fillStyle = colour; context.fillRect(x(seconds[state]) - 1, 0, 2, height); }
  context.fillStyle = "#fff"; context.fillRect(x(time) - 1, 0, 2, height);
  context.beginPath(); context.arc(x(time), 5, 4, 0, 7); context.fill();
}
