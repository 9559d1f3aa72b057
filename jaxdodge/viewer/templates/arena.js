/* The data, and the arena in perspective and from above. Lengths are metres. */
const DATA = JSON.parse(document.getElementById("data").textContent);
const ZONE = [5, 4], PLAYER = 0.5, PROJECTILE = 0.3, THROWER = 0.2, SPAWN = 20, SIDE = 24;
const TRAIL_SECONDS = 0.45;

function decoded(text, Type) {
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  return new Type(bytes.buffer);
}

/* A track as arrays of states: {player: [x, y, z, vx, vy], projectiles: [{id, at: [6]}], throwers}. */
function readTrack(content) {
  const player = decoded(content.player, Int16Array), counts = decoded(content.counts, Int16Array);
  const ids = decoded(content.ids, Int16Array), rows = decoded(content.projectiles, Int16Array);
  const throwerCounts = decoded(content.thrower_counts, Int16Array), throwers = decoded(content.throwers, Int16Array);
  const scale = [1e-3, 1e-3, 1e-3, 1e-2, 1e-2, 1e-2], states = [];
  let row = 0, thrower = 0;
  for (let state = 0; state < counts.length; state++) {
    const projectiles = [], pending = [];
    for (let i = 0; i < counts[state]; i++, row++) {
      projectiles.push({id: ids[row], at: scale.map((s, k) => rows[6 * row + k] * s)});
    }
    for (let i = 0; i < throwerCounts[state]; i++, thrower++) {
      pending.push([0, 1, 2].map(k => throwers[3 * thrower + k] * 1e-3));
    }
    states.push({player: [0, 1, 2, 3, 4].map(k => player[5 * state + k] * scale[k]), projectiles, throwers: pending});
  }
  return states;
}

function readEpisode(content) {
  const numbers = name => decoded(content[name], Float32Array);
  const reward = numbers("reward"), total = new Float64Array(reward.length);
  reward.forEach((value, state) => { total[state] = value + (state ? total[state - 1] : 0); });
  return {...content, reward, total, seconds: numbers("seconds"), action: numbers("action"), nearest: numbers("nearest"),
    ended: decoded(content.ended, Int16Array), track: readTrack(content.track),
    simulated: content.simulated && readTrack(content.simulated),
    discs: content.discs && content.discs.map(text => decoded(text, Int16Array))};
}

/* Between two states everything moves in a straight line; a jump is not drawn as a movement. */
function between(states, state, share) {
  const now = states[state], after = states[Math.min(state + 1, states.length - 1)];
  if (!share || after === now) return now;
  const mix = (a, b) => a.map((value, k) => value + (b[k] - value) * share);
  const later = new Map(after.projectiles.map(each => [each.id, each.at]));
  const jumped = Math.hypot(after.player[0] - now.player[0], after.player[1] - now.player[1]) > 3;
  return {
    player: jumped ? now.player : mix(now.player, after.player), throwers: now.throwers,
    projectiles: now.projectiles.filter(each => later.has(each.id))
      .map(each => ({id: each.id, at: mix(each.at, later.get(each.id))})),
  };
}

/* Positions of each projectile in the last moments, newest first. */
function trails(episode, states, state, shown) {
  const result = new Map(shown.projectiles.map(each => [each.id, [each.at]]));
  for (let i = state; i >= 0 && episode.seconds[state] - episode.seconds[i] < TRAIL_SECONDS; i--) {
    for (const each of states[i].projectiles) if (result.has(each.id)) result.get(each.id).push(each.at);
  }
  return result;
}

/* The canvas's context in CSS pixels, sharp on every screen. */
function fitted(canvas) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return {context, width, height};
}

const unit = v => { const n = Math.hypot(...v); return v.map(x => x / n); };
const minus = (a, b) => a.map((x, k) => x - b[k]);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];

/* A projection to pixels: p -> {x, y, scale: pixels per metre, depth}; null behind the eye. */
function perspective(width, height, turn) {
  const {eye, target, focal} = DATA.camera, arm = minus(eye, target);
  const flat = Math.hypot(arm[0], arm[1]), distance = Math.hypot(flat, arm[2]);
  const round = Math.atan2(arm[0], -arm[1]) + turn.round, up = Math.min(1.5, Math.max(0.05, Math.atan2(arm[2], flat) + turn.up));
  const from = [target[0] + distance * Math.cos(up) * Math.sin(round), target[1] - distance * Math.cos(up) * Math.cos(round),
    target[2] + distance * Math.sin(up)];
  const ahead = unit(minus(target, from)), right = unit(cross(ahead, [0, 0, 1])), top = cross(right, ahead);
  const pixels = focal * Math.min(height, width * 9 / 16);
  return p => {
    const d = minus(p, from), depth = dot(d, ahead);
    if (depth < 0.3) return null;
    const scale = pixels / depth;
    return {x: width / 2 + scale * dot(d, right), y: height / 2 - scale * dot(d, top), scale, depth};
  };
}

function fromAbove(width) {
  const scale = width / SIDE;
  return p => ({x: width / 2 + p[0] * scale, y: width / 2 - p[1] * scale, scale, depth: -p[2]});
}

function line(context, project, points, style, width = 1, closed = false) {
  context.strokeStyle = style; context.lineWidth = width; context.beginPath();
  let drawing = false;
  for (const point of closed ? [...points, points[0]] : points) {
    const at = project(point);
    if (at) { if (drawing) context.lineTo(at.x, at.y); else context.moveTo(at.x, at.y); }
    drawing = Boolean(at);
  }
  context.stroke();
}

function ground(context, project, detailed) {
  const reach = 22;
  for (let at = -reach; at <= reach; at += 2) {
    const style = `rgba(120,135,180,${detailed ? 0.13 : 0.09})`, along = [];
    for (let k = -reach; k <= reach; k += 1) along.push(k);
    line(context, project, along.map(k => [at, k, 0]), style);
    line(context, project, along.map(k => [k, at, 0]), style);
  }
  const [x, y] = ZONE, zone = [[-x, -y, 0], [x, -y, 0], [x, y, 0], [-x, y, 0]];
  const seen = zone.map(project);
  if (seen.every(Boolean)) {
    context.fillStyle = "rgba(224,204,74,0.07)"; context.beginPath();
    seen.forEach(at => context.lineTo(at.x, at.y)); context.fill();
  }
  line(context, project, zone, "#c9b83f", 2, true);
  if (DATA.spawn_angle !== null) {
    const half = DATA.spawn_angle * Math.PI / 180, arc = [];
    for (let k = -48; k <= 48; k++) arc.push([SPAWN * Math.sin(half * k / 48), SPAWN * Math.cos(half * k / 48), 0]);
    line(context, project, arc, "rgba(255,140,0,0.45)", 2);
  }
}

function shadow(context, project, at, radius, squeeze) {
  const on = project([at[0], at[1], 0]);
  if (!on) return;
  context.fillStyle = "rgba(0,0,0,0.42)"; context.beginPath();
  context.ellipse(on.x, on.y, radius * on.scale, radius * on.scale * squeeze, 0, 0, 7); context.fill();
}

function ball(context, at, radius, light, dark) {
  const r = Math.max(1.2, radius * at.scale), shade = context.createRadialGradient(at.x - r / 3, at.y - r / 3, r / 8, at.x, at.y, r);
  shade.addColorStop(0, light); shade.addColorStop(1, dark);
  context.fillStyle = shade; context.beginPath(); context.arc(at.x, at.y, r, 0, 7); context.fill();
}

function capsule(context, project, position) {
  const low = project([position[0], position[1], position[2] - 0.5]), high = project([position[0], position[1], position[2] + 0.5]);
  if (!low || !high) return;
  const r = PLAYER * low.scale, shade = context.createLinearGradient(low.x - r, 0, low.x + r, 0);
  shade.addColorStop(0, "#8cc4ff"); shade.addColorStop(0.45, "#3f96ff"); shade.addColorStop(1, "#1c57ac");
  context.strokeStyle = shade; context.lineCap = "round"; context.lineWidth = 2 * r;
  context.beginPath(); context.moveTo(low.x, low.y); context.lineTo(high.x, high.y + 0.01); context.stroke();
  context.lineCap = "butt";
}

/* One picture of the arena. `other`: a second state, drawn as rings. */
function drawArena(canvas, shown, other, past, isAbove, turn, ended) {
  const {context, width, height} = fitted(canvas);
  const project = isAbove ? fromAbove(width) : perspective(width, height, turn);
  const sky = context.createLinearGradient(0, 0, 0, height);
  sky.addColorStop(0, isAbove ? "#171a25" : "#0b0d15"); sky.addColorStop(1, "#1a1e2b");
  context.fillStyle = sky; context.fillRect(0, 0, width, height);
  ground(context, project, !isAbove);
  const {player, projectiles, throwers} = shown, squeeze = isAbove ? 1 : 0.35;
  if (!isAbove) {
    for (const each of projectiles) shadow(context, project, each.at, PROJECTILE, squeeze);
    shadow(context, project, player, PLAYER, squeeze);
  }
  for (const each of projectiles) {
    const way = (past && past.get(each.id)) || [];
    for (let k = 1; k < way.length; k++) {
      line(context, project, [way[k - 1], way[k]], `rgba(255,110,90,${0.55 * (1 - k / way.length)})`, isAbove ? 2 : 3);
    }
  }
  for (const at of throwers) { const on = project(at); if (on) ball(context, on, THROWER, "#ffd08a", "#ff8c00"); }
  let next = null, least = Infinity;
  for (const each of projectiles) {
    const distance = Math.hypot(...[0, 1, 2].map(k => each.at[k] - player[k]));
    if (distance < least) { least = distance; next = each; }
  }
  const things = projectiles.map(each => ({on: project(each.at), draw: on => ball(context, on, PROJECTILE, "#ffb0a4", "#d8241c")}));
  things.push({on: project(player), draw: on => isAbove ? ball(context, on, PLAYER, "#a8d2ff", "#2170d6") : capsule(context, project, player)});
  things.filter(each => each.on).sort((a, b) => b.on.depth - a.on.depth).forEach(each => each.draw(each.on));
  const own = project(player), near = next && project(next.at);
  if (own && near && least < 6) {
    context.setLineDash([4, 4]); context.strokeStyle = "rgba(255,255,255,0.55)"; context.lineWidth = 1;
    context.beginPath(); context.moveTo(own.x, own.y); context.lineTo(near.x, near.y); context.stroke(); context.setLineDash([]);
    context.beginPath(); context.arc(near.x, near.y, Math.max(4, PROJECTILE * near.scale + 2), 0, 7); context.stroke();
  }
  if (other) {
    context.strokeStyle = "#4fd8c4"; context.lineWidth = 1.5;
    for (const [at, radius] of [[other.player, PLAYER], ...other.projectiles.map(each => [each.at, PROJECTILE])]) {
      const on = project(at);
      if (on) { context.beginPath(); context.arc(on.x, on.y, Math.max(2, radius * on.scale) + 2, 0, 7); context.stroke(); }
    }
  }
  if (ended && own) {
    const hit = ended === 1;
    context.strokeStyle = hit ? "#ff5a52" : "#4fd8c4"; context.lineWidth = 3;
    context.beginPath(); context.arc(own.x, own.y, (isAbove ? 1.1 : 1.3) * own.scale, 0, 7); context.stroke();
    if (!isAbove) {
      context.fillStyle = context.strokeStyle; context.font = "bold 26px system-ui, sans-serif"; context.textAlign = "center";
      context.fillText(hit ? "HIT" : "SURVIVED", width / 2, 40); context.textAlign = "left";
    }
  }
}
