// Where a score stands among the scores of known pairs. The pairs of the bin that holds it could be on either side of
// it: both counts are said.

import { between, count } from "./words.js";

/**
 * "Of 1,100 impostor pairs 11 scored this high; of 1,100 genuine pairs 980 scored higher."
 * @param histograms low and high: the ends of equal bins; genuine and impostor: pairs in each
 */
export function standing({ low, high, genuine, impostor }, value) {
  const bin = binOf(value, low, high, impostor.length);
  const total = (bins) => bins.reduce((sum, number) => sum + number, 0);
  const above = (bins) => total(bins.slice(Math.max(0, bin + 1)));
  const range = (bins) => between(above(bins), above(bins) + (bins[bin] ?? 0));
  const impostors = `Of ${count(total(impostor))} impostor pairs ${range(impostor)} scored this high`;
  return `${impostors}; of ${count(total(genuine))} genuine pairs ${range(genuine)}.`;
}

/** The number of the bin that a value falls into, from 0; under 0 or over the last for a value outside. */
export function binOf(value, low, high, bins) {
  return value === high ? bins - 1 : Math.floor(((value - low) / (high - low)) * bins);
}
