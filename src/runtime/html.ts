/** A piece of HTML that was escaped when it was made. */
export interface Html {
  readonly html: string
}

type Part = Html | string | number | undefined | false | readonly Part[]

const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

function render(part: Part): string {
  if (part === undefined || part === false) return ''
  if (Array.isArray(part)) return part.map(render).join('')
  if (typeof part === 'object') return (part as Html).html
  return String(part).replace(/[&<>"']/g, (char) => entities[char] as string)
}

/** Builds HTML from a template: every value is escaped unless it was built by this tag; `undefined` and `false` leave nothing. */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  return { html: strings.map((text, i) => (i === 0 ? text : render(parts[i - 1]) + text)).join('') }
}

/** Marks text that is HTML already (a style sheet, say). */
export function raw(text: string): Html {
  return { html: text }
}
