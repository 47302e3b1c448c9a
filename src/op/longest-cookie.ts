/** Seconds for which a cookie lives at most: no browser keeps one for longer, and those of ours must outlive every OP session. */
export const longestCookie: number = 400 * 86_400
