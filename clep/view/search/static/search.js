// The search page. Everything that comes from the server is written as text (textContent), never as markup.

const $ = (id) => document.getElementById(id);
const player = $("player");
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
const behavior = calm ? "auto" : "smooth";
const narrow = matchMedia("(max-width: 900px)");
const MOST_SENTENCES = 4; // as many colours as the page has

let about = null; // of the bank: {videos, examples, …}
let early = false; // whether a search was asked for before `about` had arrived
let likes = []; // moments to find more of: {video, start_s, end_s}
let answer = null; // of the last search: {hits, typical, asked}
let selected = null; // {video, start_s, end_s}
let curve = null;
let copyFrom = null; // second at which the small copy in the player begins; null: the file itself is played
let asking = null; // AbortController of the search that runs

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function drawn(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function clock(second) {
  const whole = Math.max(0, Math.floor(second));
  const parts = [Math.floor(whole / 60) % 60, whole % 60].map((part) => String(part).padStart(2, "0"));
  const hours = Math.floor(whole / 3600);
  return hours ? `${hours}:${parts.join(":")}` : `${Number(parts[0])}:${parts[1]}`;
}

const asText = (moment) => `${moment.video}@${moment.start_s}-${moment.end_s}`;
const colour = (index) => `c${index % 4}`;
const same = (one, other) => one && other && asText(one) === asText(other);

function fromText(text) {
  const at = text.lastIndexOf("@");
  const [start, end] = text.slice(at + 1).split("-").map(Number);
  return at < 0 || !(end >= start) ? null : { video: text.slice(0, at), start_s: start, end_s: end };
}

async function ask(path, parameters, signal) {
  const response = await fetch(`${path}?${parameters}`, { signal });
  const value = await response.json().catch((error) => {
    if (error.name === "AbortError") throw error;
    return {};
  });
  if (!response.ok) throw new Error(value.error ?? `the server answered ${response.status}`);
  return value;
}

// ---- the form -------------------------------------------------------------------------------------------------------

const sentences = () => [...$("sentences").querySelectorAll("input")].map((input) => input.value.trim()).filter(Boolean);

function addSentence(text = "", focus = false) {
  const count = $("sentences").children.length;
  if (count >= MOST_SENTENCES) return;
  const input = element("input", {
    type: "search", maxlength: "2000", autocomplete: "off", spellcheck: "false", enterkeyhint: "search",
    "aria-label": count ? `Sentence ${count + 1}` : "Sentence",
    placeholder: count ? "and also…" : "Describe a moment: opens the fridge",
  });
  input.value = text;
  const button = count
    ? element("button", { type: "button", class: "remove", "aria-label": `Remove sentence ${count + 1}`, onclick: removeSentence }, "Remove")
    : element("button", { type: "submit", class: "go" }, "Search");
  $("sentences").append(element("div", { class: `sentence ${colour(count)}` }, element("span", { class: "dot" }), input, button));
  $("add").hidden = count + 1 >= MOST_SENTENCES;
  if (focus) input.focus();
}

function removeSentence(event) {
  const left = [...$("sentences").children].filter((row) => !row.contains(event.target));
  fillSentences(left.map((row) => row.querySelector("input").value));
  search();
}

function fillSentences(texts) {
  $("sentences").replaceChildren();
  for (const text of texts.length ? texts.slice(0, MOST_SENTENCES) : [""]) addSentence(text);
}

function showLikes() {
  $("likes").replaceChildren(...likes.map((moment) => {
    const name = `Like ${moment.video} at ${clock(moment.start_s)}`;
    const drop = () => { likes = likes.filter((one) => one !== moment); showLikes(); search(); };
    return element("span", { class: "like" }, name, element("button", { type: "button", class: "remove", "aria-label": `Remove: ${name}`, onclick: drop }, "Remove"));
  }));
}

// ---- the address of the page holds the search -----------------------------------------------------------------------

function asked() {
  const parameters = new URLSearchParams();
  for (const text of sentences()) parameters.append("q", text);
  for (const moment of likes) parameters.append("like", asText(moment));
  return parameters;
}

function filters(parameters) {
  if ($("video").value.trim()) parameters.append("video", $("video").value.trim());
  if ($("split").value) parameters.append("split", $("split").value);
  return parameters;
}

function remember(push) {
  const parameters = filters(asked());
  if (selected) parameters.append("at", asText(selected));
  const address = parameters.size ? `?${parameters}` : location.pathname;
  if (push) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
  document.title = [sentences()[0] ?? (likes.length ? "More like this" : ""), "Search moments"].filter(Boolean).join(" – ");
}

function restore() {
  const parameters = new URLSearchParams(location.search);
  fillSentences(parameters.getAll("q"));
  likes = parameters.getAll("like").map(fromText).filter(Boolean);
  $("video").value = parameters.get("video") ?? "";
  const split = parameters.get("split") ?? "";
  $("split").value = [...$("split").options].some((option) => option.value === split) ? split : "";
  showLikes();
  search(parameters.get("at") ? fromText(parameters.get("at")) : null, false);
}

// ---- searching ------------------------------------------------------------------------------------------------------

function say(text, error = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", error);
}

async function search(wanted = null, push = true) {
  if (!about) {
    early = true; // begin() searches
    return;
  }
  asking?.abort();
  asking = null;
  const parameters = asked();
  const some = parameters.size > 0;
  $("welcome").hidden = some;
  document.body.classList.toggle("searched", some);
  if (!some) {
    answer = selected = null;
    $("results").hidden = true;
    player.pause();
    say("");
    if (push) remember(true);
    return;
  }
  const request = (asking = new AbortController());
  const began = performance.now();
  try {
    const found = await ask("/api/search", filters(new URLSearchParams(parameters)), request.signal);
    answer = { ...found, asked: parameters };
  } catch (error) {
    if (error.name === "AbortError") return;
    answer = null;
    $("results").hidden = true;
    player.pause();
    say(error.message === "Failed to fetch" ? "The server has ended; start clep-search again." : sentenceOf(error.message), true);
    return;
  }
  const took = Math.max(1, Math.round(performance.now() - began));
  const count = answer.hits.length;
  say(count ? `${count} moments, best first, in ${took} ms` : "No moment was found; search in more videos.");
  selected = null;
  showHits();
  if (push) remember(true);
  const first = wanted ?? answer.hits[0];
  if (first) select(first, false);
  else $("detail").hidden = true;
}

const sentenceOf = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;

function share(score, index = null) {
  const typical = index === null ? answer.typical.reduce((sum, one) => sum + one, 0) / answer.typical.length : answer.typical[index];
  const scores = answer.hits.map((hit) => (index === null ? hit.score : hit.scores[index]));
  return Math.min(1, Math.max(0.03, (score - typical) / Math.max(1e-6, Math.max(...scores) - typical)));
}

function showHits() {
  $("results").hidden = false;
  $("hits").replaceChildren(...answer.hits.map((hit) => {
    const picture = hit.missing
      ? element("span", { class: "gone" }, `No picture: ${hit.missing}`)
      : element("img", { src: `/strip?${new URLSearchParams({ at: asText(hit) })}`, alt: "", loading: "lazy", width: "576", height: "108" });
    picture.addEventListener?.("error", () => picture.replaceWith(element("span", { class: "gone" }, "No picture: the video cannot be decoded here")));
    const bars = element("span", { class: "bars" }, ...hit.scores.map((score, index) => {
      const fill = element("i");
      fill.style.width = `${100 * share(score, index)}%`;
      return element("span", { class: `bar ${colour(index)}`, title: score.toFixed(3) }, fill);
    }));
    const where = `${hit.video} · ${clock(hit.start_s)}–${clock(hit.end_s)}`;
    const facts = element("span", { class: "facts" },
      element("span", { class: "text" }, hit.narration || where),
      element("span", { class: "where" }, hit.narration ? where : " "),
      element("span", { class: "score", title: "cosine similarity" }, hit.score.toFixed(3)), bars);
    const button = element("button", { type: "button", class: "hit", "data-at": asText(hit), onclick: () => select(hit, true) }, picture, facts);
    return element("li", {}, button);
  }));
}

// ---- the selected moment --------------------------------------------------------------------------------------------

async function select(moment, play) {
  selected = { video: moment.video, start_s: moment.start_s, end_s: moment.end_s };
  for (const button of document.querySelectorAll(".hit")) {
    const here = button.dataset.at === asText(selected);
    button.setAttribute("aria-current", String(here));
    if (here && play && !narrow.matches) button.scrollIntoView({ block: "nearest", behavior });
  }
  if (play && narrow.matches) $("detail").scrollIntoView({ block: "start", behavior });
  remember(false);
  $("detail").hidden = false;
  $("title").textContent = `${moment.video} · ${clock(moment.start_s)}–${clock(moment.end_s)}`;
  $("only").hidden = about.videos.length < 2;
  const mine = selected;
  curve = null;
  showCurve();
  const [facts, over] = await Promise.allSettled([
    ask("/api/moment", new URLSearchParams({ at: asText(mine) })),
    ask("/api/curve", new URLSearchParams([...answer.asked, ["of", mine.video]])),
  ]);
  if (selected !== mine) return;
  if (facts.status === "rejected") {
    $("detail").hidden = true;
    say(sentenceOf(facts.reason.message), true);
    return;
  }
  curve = over.status === "fulfilled" ? over.value : null;
  showVideo(facts.value, play);
  showNarrations(facts.value.narrations);
  showCurve(facts.value.narrations);
  showWords();
}

function note(text) {
  $("note").textContent = text;
  $("note").hidden = !text;
}

function showVideo(facts, play) {
  const name = new URLSearchParams({ id: selected.video });
  note(facts.missing ? `No video: ${facts.missing}` : facts.reason ? `A small copy is shown: ${facts.reason}.` : "");
  $("stage").hidden = Boolean(facts.missing);
  $("replay").hidden = Boolean(facts.missing);
  $("still").hidden = true;
  player.hidden = false;
  player.dataset.play = play ? "yes" : "";
  if (facts.missing) {
    load("");
    return;
  }
  if (facts.direct) {
    copyFrom = null;
    load(`/video?${name}`, selected.start_s);
  } else showCopy(selected.start_s);
}

function load(address, second = 0) {
  if (!address) {
    player.removeAttribute("src");
    player.load();
  } else if (player.getAttribute("src") !== address || player.error) {
    player.dataset.second = second;
    player.src = address;
  } else {
    player.dataset.second = second;
    arrive();
  }
}

function arrive() {
  if (player.readyState < 1) return;
  if (player.dataset.second !== "") player.currentTime = Number(player.dataset.second);
  player.dataset.second = "";
  if (player.dataset.play && !calm) player.play().catch(() => {});
}

function showCopy(second) {
  copyFrom = Math.max(0, Math.floor(second) - 2);
  load(`/clip?${new URLSearchParams({ id: selected.video, from: copyFrom })}`, second - copyFrom);
}

async function failed() {
  if (!player.getAttribute("src") || !selected) return;
  if (copyFrom === null) {
    note("A small copy is shown: this browser does not play the file.");
    showCopy(selected.start_s);
    return;
  }
  const reason = await fetch(player.getAttribute("src")).then((response) => (response.ok ? "this browser plays no H.264 video" : response.text()), () => "the server has ended");
  note(`No video: ${reason}`);
  player.hidden = true;
  $("still").hidden = false;
  $("still").src = `/strip?${new URLSearchParams({ at: asText(selected) })}`;
}

function seek(second, play = true) {
  player.dataset.play = play ? "yes" : "";
  if (copyFrom === null) load(player.getAttribute("src") ?? "", second);
  else if (second >= copyFrom && second < copyFrom + (player.duration || 0)) load(player.getAttribute("src"), second - copyFrom);
  else showCopy(second);
  showNow(second);
}

function showNarrations(narrations) {
  $("narrations-part").hidden = !narrations.length;
  $("narrations").replaceChildren(...narrations.map(({ second, text }) => {
    const inside = second >= selected.start_s && second <= selected.end_s;
    return element("li", {}, element("button", { type: "button", class: inside ? "inside" : "", onclick: () => seek(second) }, element("time", {}, clock(second)), element("span", {}, text)));
  }));
}

// ---- similarity over time -------------------------------------------------------------------------------------------

function showCurve(narrations = []) {
  if (!curve) {
    $("curve").replaceChildren();
    $("legend").replaceChildren();
    return;
  }
  const all = [...curve.scores.flat(), ...curve.typical];
  const low = Math.min(...all), high = Math.max(...all, low + 1e-3);
  const x = (second) => (1000 * second) / curve.end_s;
  const y = (score) => 94 - (84 * (score - low)) / (high - low);
  const picture = drawn("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none", "aria-hidden": "true" });
  picture.append(drawn("rect", { class: "moment", x: x(selected.start_s), width: Math.max(2, x(selected.end_s - selected.start_s)), y: 0, height: 100 }));
  for (const { second } of narrations) picture.append(drawn("line", { class: "tick", x1: x(second), x2: x(second), y1: 96, y2: 100 }));
  curve.scores.forEach((scores, index) => {
    picture.append(drawn("line", { class: `typical ${colour(index)}`, x1: 0, x2: 1000, y1: y(curve.typical[index]), y2: y(curve.typical[index]) }));
    const points = curve.seconds.map((second, at) => `${x(second).toFixed(1)} ${y(scores[at]).toFixed(1)}`);
    picture.append(drawn("path", { class: colour(index), d: `M${points.join("L")}` }));
  });
  picture.append(drawn("line", { class: "now", x1: x(selected.start_s), x2: x(selected.start_s), y1: 0, y2: 100 }));
  const at = element("span", { class: "at" });
  at.hidden = true;
  $("curve").replaceChildren(picture, at);
  $("curve").setAttribute("aria-valuemin", "0");
  $("curve").setAttribute("aria-valuemax", String(Math.round(curve.end_s)));
  showNow(selected.start_s);
  const names = [...answer.asked.getAll("q"), ...answer.asked.getAll("like").map((text) => `like ${text}`)];
  $("legend").replaceChildren(
    ...names.map((name, index) => element("span", { class: colour(index) }, element("i", { class: "line" }), name.slice(0, 80))),
    element("span", {}, element("i", { class: "dashed" }), "a typical moment"));
}

function showNow(second) {
  const line = $("curve").querySelector(".now");
  if (!line || !curve) return;
  const at = String((1000 * second) / curve.end_s);
  line.setAttribute("x1", at);
  line.setAttribute("x2", at);
  $("curve").setAttribute("aria-valuenow", String(Math.round(second)));
  $("curve").setAttribute("aria-valuetext", clock(second));
}

const secondAt = (event) => {
  const box = $("curve").getBoundingClientRect();
  return curve.end_s * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
};

$("curve").addEventListener("click", (event) => { if (curve) seek(secondAt(event)); });
$("curve").addEventListener("pointermove", (event) => {
  const at = $("curve").querySelector(".at");
  if (!curve || !at) return;
  at.hidden = false;
  at.textContent = clock(secondAt(event));
  at.style.left = `${Math.min(96, Math.max(4, (100 * secondAt(event)) / curve.end_s))}%`;
});
$("curve").addEventListener("pointerleave", () => { const at = $("curve").querySelector(".at"); if (at) at.hidden = true; });
$("curve").addEventListener("keydown", (event) => {
  const steps = { ArrowLeft: -1, ArrowRight: 1, PageDown: -10, PageUp: 10, Home: -Infinity, End: Infinity };
  if (!(event.key in steps) || !curve) return;
  event.preventDefault();
  seek(Math.min(curve.end_s - 0.1, Math.max(0, Number($("curve").getAttribute("aria-valuenow")) + steps[event.key])));
});

// ---- what each word does --------------------------------------------------------------------------------------------

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;
const direction = (value) => (value > 0.0005 ? "up" : value < -0.0005 ? "down" : "");

async function showWords() {
  const text = answer.asked.getAll("q")[0] ?? "";
  const words = text.split(/\s+/).filter(Boolean).slice(0, 40);
  $("words-part").hidden = !words.length;
  $("swap").value = text;
  $("swapped").textContent = "";
  $("words").replaceChildren();
  if (!words.length) return;
  const without = words.length > 1 ? words.map((_, index) => words.filter((_, other) => other !== index).join(" ")) : [];
  const mine = selected;
  const parameters = new URLSearchParams([...[text, ...without].map((one) => ["q", one]), ["at", asText(mine)]]);
  const { scores } = await ask("/api/scores", parameters).catch(() => ({ scores: [] }));
  if (selected !== mine || !scores.length) return;
  $("words").replaceChildren(...words.map((word, index) => {
    const difference = without.length ? scores[0] - scores[index + 1] : null;
    const value = difference === null ? null : element("b", {}, signed(difference));
    const title = difference === null ? "" : `Without it the similarity would be ${scores[index + 1].toFixed(3)} instead of ${scores[0].toFixed(3)}`;
    const choose = () => {
      const start = words.slice(0, index).join(" ").length + (index ? 1 : 0);
      $("swap").value = words.join(" ");
      $("swap").focus();
      $("swap").setSelectionRange(start, start + word.length);
    };
    return element("button", { type: "button", class: `word ${difference === null ? "" : direction(difference)}`, title, onclick: choose }, word, value);
  }));
}

let swapping = 0;
async function swap() {
  const mine = ++swapping;
  await new Promise((done) => setTimeout(done, 120));
  const text = answer?.asked.getAll("q")[0] ?? "", other = $("swap").value.trim();
  if (mine !== swapping) return;
  $("swapped").textContent = "";
  if (!other || other === text || !selected) return;
  const parameters = new URLSearchParams([["q", text], ["q", other], ["at", asText(selected)]]);
  const { scores } = await ask("/api/scores", parameters).catch(() => ({ scores: [] }));
  if (mine !== swapping || !scores.length) return;
  const difference = scores[1] - scores[0];
  $("swapped").append(`${scores[0].toFixed(3)} → ${scores[1].toFixed(3)}  `, element("span", { class: direction(difference) }, signed(difference)));
}

// ---- events ---------------------------------------------------------------------------------------------------------

$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!sentences().length && !likes.length) {
    search();
    say("Type what you look for.");
    $("sentences").querySelector("input").focus();
  } else search();
});
$("add").addEventListener("click", () => addSentence("", true));
$("video").addEventListener("input", () => {
  const value = $("video").value.trim();
  if (!value || about?.videos.some(({ id }) => id === value)) search();
});
$("video").addEventListener("change", () => {
  // leaving the field, for instance by a click on a moment, is no new search
  if (new URLSearchParams(location.search).get("video") !== ($("video").value.trim() || null)) search();
});
$("split").addEventListener("change", () => search());
$("swap").addEventListener("input", swap);
$("replay").addEventListener("click", () => seek(selected.start_s));
$("more").addEventListener("click", () => {
  likes = [selected];
  fillSentences([]);
  showLikes();
  search();
  scrollTo({ top: 0 });
});
$("only").addEventListener("click", () => { $("video").value = selected.video; search(selected); });
$("link").addEventListener("click", async () => {
  const done = await navigator.clipboard?.writeText(location.href).then(() => true, () => false);
  $("link").textContent = done ? "Copied" : "Copy the address above";
  setTimeout(() => ($("link").textContent = "Copy link"), 1600);
});
player.addEventListener("loadedmetadata", arrive);
player.addEventListener("timeupdate", () => showNow(player.currentTime + (copyFrom ?? 0)));
player.addEventListener("error", failed);
addEventListener("popstate", restore);
addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "/" && !typing) {
    event.preventDefault();
    $("sentences").querySelector("input").focus();
  }
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || !answer?.hits.length || event.target.matches("#curve, video, select, #video")) return;
  const at = answer.hits.findIndex((hit) => same(hit, selected)) + step;
  if (at >= 0 && at < answer.hits.length) {
    event.preventDefault();
    select(answer.hits[at], true);
  }
});

async function begin() {
  addSentence("", true);
  try {
    about = await ask("/api/about", "");
  } catch (error) {
    say(sentenceOf(error.message), true);
    return;
  }
  const hours = about.hours < 1 ? `${Math.max(1, Math.round(60 * about.hours))} min` : `${about.hours.toFixed(1)} h`;
  const exact = about.recall === null ? "" : ` · recall@10 ${about.recall.toFixed(2)}`;
  $("about").textContent = `${about.videos.length.toLocaleString("en")} videos · ${hours} · ${about.moments.toLocaleString("en")} moments${exact}`;
  $("about").title = `${about.bank}, rows of ${about.encoder || "an unnamed encoder"}`;
  $("videos").replaceChildren(...about.videos.slice(0, 5000).map(({ id }) => element("option", { value: id })));
  const splits = [...new Set(about.videos.map(({ split }) => split).filter(Boolean))].sort();
  $("split").append(...splits.map((split) => element("option", { value: split }, split)));
  $("split-label").hidden = !splits.length;
  $("video-label").hidden = about.videos.length < 2;
  const examples = about.examples.length ? about.examples : ["opens the door", "washes the hands", "picks up a cup", "looks at the phone"];
  $("examples").replaceChildren(...examples.map((text) => element("button", { type: "button", onclick: () => { fillSentences([text]); search(); } }, text)));
  if (early) search();
  else if (!sentences().length) restore(); // what was typed meanwhile stays
  if (!asked().size) $("sentences").querySelector("input").focus();
}

begin();
