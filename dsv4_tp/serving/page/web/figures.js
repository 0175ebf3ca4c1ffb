// Numbers and words from looks at a cluster; nothing here touches the page.

const UNITS = ["B", "KB", "MB", "GB", "TB"];
const OVER_S = 2; // rates over less jump about

// 5345678 is 5.3 MB.
export function bytes(count) {
  const power = Math.min(Math.floor(Math.log10(Math.max(count, 1)) / 3), UNITS.length - 1);
  return `${(count / 1000 ** power).toFixed(power ? 1 : 0)} ${UNITS[power]}`;
}

// 0.34 is 0.34 s, 250 is 4 min.
export function seconds(time_s) {
  if (time_s >= 120) return `${Math.round(time_s / 60)} min`;
  return `${time_s.toFixed(time_s < 1 ? 2 : 1)} s`;
}

// What grew by how much a second between the last look and one some seconds before; counters that
// began anew, in another epoch, count as 0. `of` is the counter of a look.
export function rate(looks, of) {
  const now = looks.at(-1);
  const before = looks.findLast((look) => now.now_s - look.now_s >= OVER_S) ?? looks[0];
  const time_s = now.now_s - before.now_s;
  return time_s > 0 ? Math.max(0, of(now) - of(before)) / time_s : 0;
}

// The decode steps of a rank in this epoch, for `rate`.
export function stepsOf(rank) {
  return (look) => {
    const ranks = look.hosts.flatMap((host) => host.ranks);
    return ranks.find((each) => each.report.rank === rank)?.report.decode_steps ?? 0;
  };
}

// How two hosts hear each other: the worst word of both.
function heard(one, other) {
  const words = [
    one.links.find((link) => link.host === other.name),
    other.links.find((link) => link.host === one.name),
  ].filter(Boolean);
  if (words.some((link) => link.silent)) return { state: "silent", text: "nothing comes through" };
  const ages = words.map((link) => link.quiet_s).filter((age) => age !== null);
  if (!ages.length) return { state: "unwatched", text: "not watched" };
  return { state: "up", text: `heard ${seconds(Math.max(...ages))} ago` };
}

// The way from each host to the next, and from the last to the first; two have one, one has none.
export function ring(hosts) {
  const count = hosts.length < 3 ? hosts.length - 1 : hosts.length;
  return Array.from({ length: Math.max(0, count) }, (_, at) => {
    const [one, other] = [hosts[at], hosts[(at + 1) % hosts.length]];
    return { from: one.name, to: other.name, ...heard(one, other) };
  });
}

// What a rank holds, as shares of the longest of it, and in words.
export function memory(rank) {
  const { active_bytes: held, peak_bytes: peak, bytes_loaded, bytes_total } = rank.report;
  const most = Math.max(held, peak, rank.planned_bytes, 1);
  const loading = bytes_loaded < bytes_total && !rank.weight_bytes;
  const weights = loading ? bytes_loaded : rank.weight_bytes;
  const words = [
    `${bytes(held)} held`,
    `weights ${bytes(weights)} of ${bytes(rank.planned_bytes)} planned`,
    `peak ${bytes(peak)}`,
  ];
  const share = (count) => count / most;
  return {
    held: share(held),
    weights: share(Math.min(weights, held || weights)),
    planned: share(rank.planned_bytes),
    peak: share(peak),
    text: words.join(", "),
  };
}

// The points of a line through numbers, in a box of 120 x 24; the newest is at the right.
export function line(numbers) {
  const most = Math.max(...numbers, 1);
  const first = 120 - numbers.length;
  return numbers
    .map((each, at) => `${first + at},${(23 - (22 * each) / most).toFixed(1)}`)
    .join(" ");
}
