"use strict";
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const store = { get: () => { try { return localStorage.getItem("theme"); } catch { return null; } },
                  set: (value) => { try { localStorage.setItem("theme", value); } catch { /* a page from a file may not */ } } };

  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : system.matches;

  // Colours of the theme as they are now, for what is drawn on canvases.
  function colours(printing) {
    const style = getComputedStyle(root);
    const value = (name) => style.getPropertyValue(name).trim();
    const rgb = (text) => [1, 3, 5].map((place) => parseInt(text.slice(place, place + 2), 16));
    const steps = [];
    for (let n = 0; n < 21; n++) steps.push(rgb(value(`--q${n}`)));
    return { steps, accent: value("--accent"), background: value(printing ? "--background" : "--panel") };
  }

  const bytes = (text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0));

  // One image, a pixel a cell; drawn large without smoothing.
  function image(rows, columns, level, steps) {
    const canvas = document.createElement("canvas");
    canvas.width = columns; canvas.height = rows;
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(columns, rows);
    for (let n = 0; n < rows * columns; n++) {
      const place = level(n) / 255 * 20, low = Math.floor(place), high = Math.min(low + 1, 20);
      for (let c = 0; c < 3; c++) pixels.data[4 * n + c] = steps[low][c] + (steps[high][c] - steps[low][c]) * (place - low);
      pixels.data[4 * n + 3] = 255;
    }
    context.putImageData(pixels, 0, 0);
    return canvas;
  }

  // The matrix, the columns' profile above it and the rows' at its right. Returns the square that the matrix fills.
  function paint(canvas, map, look, size) {
    const strip = Math.round(size / 7), side = size - strip - 2;
    canvas.width = size; canvas.height = size;
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    const values = bytes(map.density);
    context.drawImage(image(map.cells[0], map.cells[1], (n) => values[n], look.steps), 0, strip + 2, side, side);
    context.fillStyle = look.accent;
    const columns = bytes(map.columns.values), rows = bytes(map.rows.values);
    columns.forEach((value, n) => {
      const x = side * n / columns.length, length = strip * value / 255;
      context.fillRect(x, strip - length, Math.max(side / columns.length, 0.6), length);
    });
    rows.forEach((value, n) => {
      const y = strip + 2 + side * n / rows.length;
      context.fillRect(side + 2, y, strip * value / 255, Math.max(side / rows.length, 0.6));
    });
    return { top: strip + 2, side };
  }

  const figures = [...document.querySelectorAll(".heat_maps")].map((part) => {
    const data = JSON.parse(part.querySelector(".heat-data").textContent);
    return { data, tiles: [...part.querySelectorAll(".tile")] };
  });

  function paintTiles(printing) {
    const look = colours(printing);
    const size = 120 * Math.min(Math.ceil(devicePixelRatio || 1), 3);
    for (const { data, tiles } of figures) {
      tiles.forEach((tile) => paint(tile.querySelector("canvas"), data.maps[+tile.dataset.map], look, size));
    }
  }

  const dialog = document.getElementById("zoom");
  const within = (name) => dialog.querySelector(name);
  const percent = (share) => `${Number((100 * share).toPrecision(3))} %`;
  let shown = null;

  function span(index, cells, size) {
    const first = Math.floor(index * size / cells), last = Math.max(Math.floor((index + 1) * size / cells) - 1, first);
    return first === last ? `${first}` : `${first} to ${last}`;
  }

  function paintZoom() {
    if (!shown) return;
    const { figure, index } = shown, map = figure.data.maps[index], look = colours(true);
    document.getElementById("zoom:title").textContent = map.full;
    const share = map.share === null ? "" : `, ${percent(map.share)} in the region`;
    within(".zoom-facts").textContent = `${map.shape[0]} rows (outputs) × ${map.shape[1]} columns (inputs)${share}. ` +
      `The last colour: ${percent(figure.data.top)}. Fullest bin of rows ${percent(map.rows.most)}, of columns ${percent(map.columns.most)}.`;
    const large = within(".large");
    large.setAttribute("aria-label", `Where the region lies in ${map.full}, with the shares of its columns above and of its rows at the right`);
    shown.place = paint(large, map, look, 1120);
    within(".zoom-where").textContent = "Point at a cell to read its share.";
    const detail = within(".zoom-detail");
    detail.hidden = !map.detail;
    if (map.detail) paintDetail(detail, map.detail, look);
    within(".before").disabled = index === 0;
    within(".after").disabled = index === figure.data.maps.length - 1;
  }

  function paintDetail(place, detail, look) {
    const [rows, columns] = detail.size, bits = bytes(detail.bits);
    const canvas = place.querySelector("canvas"), scale = Math.max(1, Math.floor(768 / Math.max(rows, columns)));
    canvas.width = columns * scale; canvas.height = rows * scale;
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    const drawn = image(rows, columns, (n) => (bits[n >> 3] >> (7 - (n & 7))) & 1 ? 255 : 0, look.steps);
    context.drawImage(drawn, 0, 0, canvas.width, canvas.height);
    const where = `rows ${detail.row} to ${detail.row + rows - 1}, columns ${detail.column} to ${detail.column + columns - 1}`;
    canvas.setAttribute("aria-label", `Every weight of ${where}`);
    place.querySelector("figcaption").textContent = `The densest place, one cell a weight: ${where}.`;
  }

  function open(figure, index) {
    shown = { figure, index };
    paintZoom();
    if (!dialog.open) dialog.showModal();
  }

  function turn(by) {
    const next = shown.index + by;
    if (next >= 0 && next < shown.figure.data.maps.length) open(shown.figure, next);
  }

  for (const figure of figures) figure.tiles.forEach((tile) => tile.addEventListener("click", () => open(figure, +tile.dataset.map)));
  within(".close").addEventListener("click", () => dialog.close());
  within(".before").addEventListener("click", () => turn(-1));
  within(".after").addEventListener("click", () => turn(1));
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") turn(-1);
    if (event.key === "ArrowRight") turn(1);
  });
  dialog.addEventListener("close", () => { shown = null; });
  within(".large").addEventListener("pointermove", (event) => {
    if (!shown) return;
    const canvas = event.target, map = shown.figure.data.maps[shown.index], scale = canvas.width / canvas.clientWidth;
    const column = Math.floor(event.offsetX * scale / shown.place.side * map.cells[1]);
    const row = Math.floor((event.offsetY * scale - shown.place.top) / shown.place.side * map.cells[0]);
    if (row < 0 || column < 0 || row >= map.cells[0] || column >= map.cells[1]) return;
    shown.values ??= bytes(map.density);
    const share = shown.figure.data.top * (shown.values[row * map.cells[1] + column] / 255) ** 2;
    within(".zoom-where").textContent =
      `Rows ${span(row, map.cells[0], map.shape[0])}, columns ${span(column, map.cells[1], map.shape[1])}: ${percent(share)}`;
  });

  // A line of a figure is set off while its name is pointed at, and for good once it is chosen.
  function setOff(button, on) {
    button.dataset.on = on ? "yes" : "";
    const figure = button.closest("figure"), names = [...figure.querySelectorAll("[data-line]")];
    const any = names.some((name) => name.dataset.on);
    for (const name of names) {
      const id = CSS.escape(name.dataset.line), end = CSS.escape(/:[^:]*$/.exec(name.dataset.line)[0]);
      figure.querySelectorAll(`[id="${id}"],[id^="${id}-"],[id$="${end}"]`).forEach((line) => line.classList.toggle("off", any && !name.dataset.on));
    }
  }
  for (const name of document.querySelectorAll("[data-line]")) {
    const chosen = () => name.getAttribute("aria-pressed") === "true";
    name.addEventListener("pointerenter", () => setOff(name, true));
    name.addEventListener("pointerleave", () => setOff(name, chosen()));
    name.addEventListener("click", () => { name.setAttribute("aria-pressed", String(!chosen())); setOff(name, chosen()); });
  }

  function refresh() {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-pressed", String(isDark()));
    button.setAttribute("aria-label", isDark() ? "Show in light colours" : "Show in dark colours");
    paintTiles(false);
    paintZoom();
  }
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    store.set(root.dataset.theme);
    refresh();
  });
  system.addEventListener("change", refresh);
  matchMedia("print").addEventListener("change", (event) => paintTiles(event.matches));
  const kept = store.get();
  if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  refresh();
})();
