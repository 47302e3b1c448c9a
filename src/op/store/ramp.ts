/** A stretch of a ramp: the rows from number `from` on (the first is 1) come `every` milliseconds, beginning after `after`. */
export interface RampStep {
  readonly from: number
  readonly after: number
  readonly every: number
}

/**
 * How rows that waited come due again: 1 in the first second, then 2, 4, 8, ... up to `perSecond` a second. An RP that is
 * back, with cold caches and perhaps only just able to stand, is not knocked over by what it missed.
 */
export function rampSteps(perSecond: number): readonly RampStep[] {
  const steps: RampStep[] = []
  let from = 1
  for (; from < perSecond; from *= 2) steps.push({ from, after: steps.length * 1000, every: 1000 / from })
  return [...steps, { from, after: steps.length * 1000, every: 1000 / perSecond }]
}
