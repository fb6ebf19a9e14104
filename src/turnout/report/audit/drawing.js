// Figures: drawn when first in view, and again when the selection that they show has changed.

const narrow = () => window.innerWidth < 736;
const printing = () => document.documentElement.classList.contains("printing");
const figures = new Map();
const inView = new Set();

/** Register the figure of element `id`: the selections it shows, its traces and layout, its description, a click. */
function addFigure(id, { shows = [], build, describe, click = null }) {
  figures.set(id, { shows, build, describe, click, stale: true });
}

function draw(id) {
  const figure = figures.get(id);
  if (!figure.stale) return;
  figure.stale = false;
  find(id).setAttribute("aria-label", figure.describe());
  const node = drawFigure(id, figure.build(colors()));
  if (node.dataset.drawn === "1" && figure.click) node.on("plotly_click", (event) => figure.click(event.points[0]));
}

const drawAll = () => [...figures.keys()].forEach(draw);

/** Mark the figures that show what changed ("all": every one), and draw those in view. */
function refresh(...changed) {
  for (const [id, figure] of figures) {
    if (changed.includes("all") || figure.shows.some((selection) => changed.includes(selection))) figure.stale = true;
    if (figure.stale && inView.has(id)) draw(id);
  }
}

/** Draw each figure as it comes near the window. */
function watchFigures() {
  const watcher = new IntersectionObserver((entries) => entries.forEach((entry) => {
    if (entry.isIntersecting) { inView.add(entry.target.id); draw(entry.target.id); } else inView.delete(entry.target.id);
  }), { rootMargin: "200px" });
  for (const id of figures.keys()) watcher.observe(find(id));
}
