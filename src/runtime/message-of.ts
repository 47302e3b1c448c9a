/** What an unknown error says about itself, fit for a log: cut and cleaned, since others write such texts too (T24). */
export function messageOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error)
  const cause = error instanceof Error && error.cause instanceof Error ? `: ${error.cause.message}` : ''
  return sanitize(text + cause)
}

/** At most 200 characters of somebody else's text, without control characters (T24). */
export function sanitize(text: string): string {
  return text.replace(/\p{C}/gu, ' ').slice(0, 200)
}
