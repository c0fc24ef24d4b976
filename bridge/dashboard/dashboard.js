// What is drawn in the browser itself: the cells of the table of chargers, by the language and clock of the browser.
window.gridlimit = {
  language: document.documentElement.lang || "en",
  power(watts) {
    if (watts === null || watts === undefined) return "–";
    return (watts / 1000).toLocaleString(this.language, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
  },
  amperes(list) {
    if (!list || list.every((each) => each === null)) return "–";
    return list.map((each) => (each === null ? "–" : Math.round(each / 1000))).join(" / ");
  },
  clock(ms) {
    if (!ms) return "–";
    const then = new Date(ms), today = new Date().toDateString() === then.toDateString();
    return today ? then.toLocaleTimeString(this.language, { hour12: false }) : then.toLocaleDateString(this.language);
  },
  bar(row) {
    const cell = document.createElement("div");
    cell.className = "gl-cell";
    const of = (watts) => Math.min(100, (100 * (watts || 0)) / (row.maximum || 1)) + "%";
    const part = (name, side, watts) => {
      const piece = cell.appendChild(document.createElement("i"));
      piece.className = name;
      piece.style[side] = of(watts);
    };
    part("g", "width", row.granted);
    part(row.look === "alarm" ? "r" : "p", "width", row.power);
    if (row.granted !== null) part("t", "left", row.granted);
    return cell;
  },
  state(row) {
    const cell = document.createElement("span");
    const dot = cell.appendChild(document.createElement("i"));
    dot.className = "gl-dot " + row.look;
    cell.appendChild(document.createTextNode(row.state));
    cell.title = row.why;
    return cell;
  },
  fit(api) {
    const narrow = () => {
      const phone = window.innerWidth < 640;
      api.setColumnsVisible(["power", "worst", "currents", "seen", "waiting", "granted"], !phone);
      api.sizeColumnsToFit();
    };
    narrow();
    window.addEventListener("resize", narrow);
  },
};
