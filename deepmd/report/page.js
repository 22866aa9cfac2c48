// Plots have a fixed size in pixels: they are drawn anew for the paper, and for the window again afterwards.
const plots = () => Array.from(document.querySelectorAll(".js-plotly-plot"));
window.addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((each) => { each.open = true; });
  plots().forEach((plot) => Plotly.relayout(plot, { width: 335, autosize: false }));
});
window.addEventListener("afterprint", () => plots().forEach((plot) => Plotly.relayout(plot, { width: null, autosize: true })));
