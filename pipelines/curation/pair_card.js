// A pair to judge: both sides as text or as a waveform that can be heard, its scores, and what was said about it.
// Whatever comes from the data is set as text, never as markup.

const drawn = new WeakMap(); // what a place on the page shows, so that a rerun with the same data leaves sound alone
const HEIGHT = 44, WIDTH = 600;
const AT_LEAST_SEEN = 250, AT_MOST_WAITED = 1500; // milliseconds
const PLAY = "M8 5v14l11-7z", PAUSE = "M6 5h4v14H6zM14 5h4v14h-4z";
const loaded = new Map(); // address → promise of a blob's address, of the clips heard last
let sounding = null; // only one clip sounds at a time

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined && text !== null) made.textContent = text;
  return made;
}

function isTyping(event) {
  const at = event.composedPath()[0];
  return at && (at.isContentEditable || /^(TEXTAREA|SELECT)$/.test(at.tagName || "") ||
    (at.tagName === "INPUT" && !/^(range|checkbox|radio|button)$/.test(at.type)));
}

function shape(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

async function asked(address) {
  const answer = await fetch(address, { credentials: "same-origin" });
  if (!answer.ok) throw new Error((await answer.text()).trim() || `status ${answer.status}`);
  return answer;
}

function soundOf(address) {
  if (!loaded.has(address)) {
    loaded.set(address, asked(address).then((answer) => answer.blob()).then((blob) => URL.createObjectURL(blob)));
    loaded.get(address).catch(() => loaded.delete(address));
    if (loaded.size > 40) {
      const [oldest, promise] = loaded.entries().next().value;
      loaded.delete(oldest);
      promise.then((made) => URL.revokeObjectURL(made), () => {});
    }
  }
  return loaded.get(address);
}

function seconds(value) {
  const whole = Math.floor(value / 60);
  return whole ? `${whole}:${(value % 60).toFixed(1).padStart(4, "0")}` : `${value.toFixed(1)} s`;
}

// Lowest to highest sample of each stretch of time, the span darker than what is around it, and where the sound is.
function waveform(about, seek) {
  const svg = shape("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: "waveform", tabindex: "0", role: "slider",
    "aria-label": `waveform: ${seconds(about.end - about.start)} within ${seconds(about.seconds)}`,
    "aria-valuemin": "0", "aria-valuemax": about.seconds.toFixed(2), "aria-valuenow": about.start.toFixed(2),
  });
  const x = (time) => (time / about.seconds) * WIDTH;
  svg.append(shape("rect", { class: "span", x: x(about.start), y: 0, width: x(about.end) - x(about.start), height: HEIGHT }));
  const paths = { inside: "", outside: "" };
  about.peaks.forEach(([low, high], index) => {
    const middle = (index + 0.5) * (about.seconds / about.peaks.length);
    const y = (value) => (HEIGHT / 2 - value * (HEIGHT / 2 - 1)).toFixed(1);
    const kind = middle >= about.start && middle < about.end ? "inside" : "outside";
    paths[kind] += `M${x(middle).toFixed(1)} ${y(Math.min(low, -0.015))}V${y(Math.max(high, 0.015))}`;
  });
  svg.append(shape("path", { class: "outside", d: paths.outside }), shape("path", { class: "inside", d: paths.inside }));
  const cursor = shape("line", { class: "cursor", x1: 0, x2: 0, y1: 0, y2: HEIGHT, visibility: "hidden" });
  svg.append(cursor);
  svg.addEventListener("click", (event) => {
    const box = svg.getBoundingClientRect();
    seek(((event.clientX - box.left) / box.width) * about.seconds);
  });
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.5, ArrowRight: 0.5 }[event.key];
    if (step) {
      event.preventDefault();
      event.stopPropagation();
      seek(Math.max(0, Number(svg.getAttribute("aria-valuenow")) + step));
    }
  });
  const at = (time) => {
    cursor.setAttribute("visibility", "visible");
    for (const end of ["x1", "x2"]) cursor.setAttribute(end, x(time));
    svg.setAttribute("aria-valuenow", time.toFixed(2));
  };
  return [svg, at];
}

// One side that is audio. Returns its element and what plays it.
function player(side) {
  const box = element("div", "player");
  const button = element("button", "play");
  const sign = shape("svg", { viewBox: "0 0 24 24", width: 18, height: 18, "aria-hidden": "true" });
  const signPath = shape("path", { d: PLAY, fill: "currentColor" });
  sign.append(signPath);
  button.append(sign);
  button.type = "button";
  const name = side.key ? `Play ${side.title} (key ${side.key})` : `Play ${side.title}`;
  button.title = name;
  button.setAttribute("aria-label", name);
  const place = element("div", "place");
  place.append(element("div", "waiting"));
  const time = element("span", "time", seconds(side.seconds));
  const audio = element("audio");
  audio.preload = "none";
  box.append(button, place, time, audio);
  let about = null, at = () => {}, stop = 0, finished = null;
  const fail = (error) => {
    place.replaceChildren(element("span", "failed", `cannot be heard: ${error.message}`));
    button.disabled = true;
  };
  const drawing = asked(`${side.clip}/waveform`)
    .then((answer) => answer.json())
    .then((answer) => {
      about = answer;
      const [svg, move] = waveform(about, (from) => play(from));
      at = move;
      place.replaceChildren(svg);
      if (about.note) box.append(element("span", "note", about.note));
    })
    .catch(fail);
  const show = () => {
    signPath.setAttribute("d", audio.paused ? PLAY : PAUSE);
    button.classList.toggle("sounding", !audio.paused);
  };
  const follow = () => {
    at(audio.currentTime);
    time.textContent = seconds(Math.max(0, audio.currentTime - about.start));
    if (audio.currentTime >= stop - 0.01) audio.pause();
    else if (!audio.paused) requestAnimationFrame(follow);
  };
  audio.addEventListener("play", () => { show(); requestAnimationFrame(follow); });
  audio.addEventListener("pause", () => {
    show();
    time.textContent = seconds(side.seconds);
    if (sounding === audio) sounding = null;
    if (finished) finished();
    finished = null;
  });
  async function play(from) {
    try {
      await drawing;
      if (!about) return;
      if (!audio.src) audio.src = await soundOf(`${side.clip}/audio`);
      if (sounding && sounding !== audio) sounding.pause();
      sounding = audio;
      const start = from === undefined ? about.start : from;
      stop = start < about.end - 0.02 ? about.end : about.seconds;
      audio.currentTime = start;
      await audio.play();
    } catch (error) {
      if (error.name !== "AbortError" && error.name !== "NotAllowedError") fail(error);
    }
  }
  const toggle = () => (audio.paused ? play() : audio.pause());
  button.addEventListener("click", toggle);
  const through = () => new Promise((done) => { play().then(() => { if (audio.paused) done(); else finished = done; }); });
  return { box, toggle, through, audio };
}

function sideOf(side, players) {
  const row = element("div", `side ${side.clip ? "speech" : "text"}`);
  const head = element("div", "language");
  head.append(element("span", "role", side.title), element("span", "code", side.lang));
  if (side.key && side.clip) head.append(element("kbd", "", side.key));
  row.append(head);
  const body = element("div", "body");
  if (side.clip) {
    const made = player(side);
    players.push({ ...made, key: side.key });
    body.append(made.box);
  }
  if (side.text) {
    const text = element("p", "words", side.text);
    text.dir = "auto";
    text.lang = side.lang;
    body.append(text);
  }
  if (side.heard) {
    const heard = element("p", "heard", side.heard);
    heard.dir = "auto";
    heard.lang = side.lang;
    heard.title = "what a recogniser heard";
    body.append(heard);
  }
  row.append(body);
  return row;
}

function card(data, trigger) {
  const players = [];
  const root = element("article", `card ${data.label || "unlabelled"}`);
  root.dataset.pair = data.pair;
  const facts = element("div", "facts");
  facts.append(element("span", `state ${data.chosen ? "chosen" : "left"}`, data.state));
  for (const [name, value, title] of data.facts) {
    const fact = element("span", "fact");
    fact.append(element("span", "name", name), element("span", "value", value));
    if (title) fact.title = title;
    facts.append(fact);
  }
  if (data.label) facts.append(element("span", `label ${data.label}`, data.label_text));
  root.append(facts, ...data.sides.map((side) => sideOf(side, players)));
  if (data.buttons.length) {
    const row = element("div", "buttons");
    for (const [name, text] of data.buttons) {
      const button = element("button", `mark ${name}`, text);
      button.type = "button";
      button.addEventListener("click", () => trigger("done", { pair: data.pair, what: name }));
      row.append(button);
    }
    root.append(row);
  }
  return [root, players];
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const place = parentElement.querySelector(".pair-card");
  const said = JSON.stringify(data);
  const before = drawn.get(place);
  if (before && before.said === said) {
    before.trigger.set = setTriggerValue;
    return before.leave;
  }
  if (before) before.leave();
  const trigger = { set: setTriggerValue };
  const [root, players] = card(data, (name, value) => trigger.set(name, value));
  place.replaceChildren(root);
  const all = async () => {
    for (const one of players) await one.through();
  };
  let open = performance.now() + AT_LEAST_SEEN; // from when on a mark is one of this pair
  const guard = (event) => {
    const at = event.composedPath()[0];
    if (at && at.tagName === "INPUT" && at.type === "range" && /^[a-z]$/i.test(event.key) && !event.repeat) {
      // the slider was moved last and keeps the keys, of which letters say nothing to it
      event.stopImmediatePropagation();
      at.blur();
      const { key, code, keyCode } = event;
      document.body.dispatchEvent(new KeyboardEvent("keydown", { key, code, keyCode, which: keyCode, bubbles: true }));
      document.body.dispatchEvent(new KeyboardEvent("keyup", { key, code, keyCode, which: keyCode, bubbles: true }));
      return;
    }
    // a key that is held down, or pressed once more before the eye has seen the next pair, is no judgement of it
    if (isTyping(event) || !data.keys.marks.includes(event.key.toUpperCase())) return;
    if (event.repeat || performance.now() < open) event.stopImmediatePropagation();
    else open = performance.now() + AT_MOST_WAITED;
  };
  const press = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || isTyping(event)) return;
    const key = event.key.toUpperCase();
    if (key === data.keys.all) {
      const loud = players.find((one) => !one.audio.paused);
      if (loud) loud.audio.pause();
      else all();
    } else {
      const found = players.find((one) => one.key && one.key === key);
      if (!found) return;
      found.toggle();
    }
    event.preventDefault();
  };
  const leave = () => {
    document.removeEventListener("keydown", press);
    window.removeEventListener("keydown", guard, true);
    for (const one of players) one.audio.pause();
    drawn.delete(place);
  };
  if (data.keys.all) {
    document.addEventListener("keydown", press);
    window.addEventListener("keydown", guard, true);
    if (data.play_at_once) all();
  }
  drawn.set(place, { said, trigger, leave });
  return leave;
}
