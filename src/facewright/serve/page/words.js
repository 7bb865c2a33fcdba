// Numbers as people read them.

const whole = new Intl.NumberFormat("en");

export const count = (number) => whole.format(number);
export const score = (value) => value.toFixed(4);

/** "1 face", "1,200 faces". */
export function amount(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** A share in per cent; never 0 or 100 where it is neither. */
export function percent(share) {
  if (share > 0 && share < 0.0005) return "under 0.1 %";
  if (share < 1 && share > 0.9995) return "over 99.9 %";
  return `${(100 * share).toFixed(1)} %`;
}

/** A chosen target: 0.01 is "1 %". */
export const target = (share) => `${Number((100 * share).toPrecision(3))} %`;

/** "11 of 1,100 (1.0 %, 95 % interval 0.5 to 1.8)". */
export function rate({ value, low, high, n }) {
  const within = `${(100 * low).toFixed(1)} to ${(100 * high).toFixed(1)}`;
  return `${count(Math.round(value * n))} of ${count(n)} (${percent(value)}, 95 % interval ${within})`;
}

/** "none", "11", "3 to 5": a number of which only bounds are known. */
export function between(least, most) {
  if (most === 0) return "none";
  return least === most ? count(least) : `${least === 0 ? "none" : count(least)} to ${count(most)}`;
}

/** "31 MB". */
export function bytes(number) {
  if (number < 1e6) return `${Math.max(1, Math.round(number / 1e3))} kB`;
  return `${(number / 1e6).toFixed(number >= 1e7 ? 0 : 1)} MB`;
}
