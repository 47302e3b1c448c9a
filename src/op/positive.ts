/** Whether an option is a number above zero; a text of digits, as it comes out of the environment, is none. */
export function isPositive(value: unknown): value is number {
  return typeof value === 'number' && value > 0
}
