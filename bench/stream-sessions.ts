export const COOKIE_SUFFIX = 'streams'

/** The value of the cookie of an RP session, by its number. */
export const cookieOf = (session: number): string => String(session).padStart(43, 'x')
