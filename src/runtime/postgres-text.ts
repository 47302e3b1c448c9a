/*
 * PostgreSQL's text holds every character but NUL, and nothing forbids NUL in a name that an operator or a browser chose.
 * So NUL, and the mark itself, travel behind a mark that no text has reason to contain: a noncharacter of Unicode.
 */
const mark = '\uFFFF'

/** What is stored for a text. */
export function toText(value: string): string {
  return value.replaceAll(mark, `${mark}1`).replaceAll('\0', `${mark}0`)
}

/** The text that was stored. */
export function fromText(stored: string): string {
  return stored.includes(mark) ? stored.replaceAll(/\uFFFF([01])/g, (_, what) => (what === '0' ? '\0' : mark)) : stored
}
