import type { ServerMetadata } from 'openid-client'
import { sanitize } from './log.ts'

/** What came back from the OP in place of what was asked for, as a clause for the log: whatever of it says most. */
export function whatCameBack(error: unknown): string {
  let said = String(error)
  for (let one = error, depth = 0; depth < 8; depth++) {
    if (one instanceof Response) return answered(one)
    if (one instanceof AggregateError) one = one.errors[0] // one for each address that a name has
    if (!(one instanceof Error)) return isOtherIssuer(one) ? spelled(one.body.issuer) : sanitize(said)
    if (one instanceof SyntaxError) return 'its answer is no JSON' // whose message would quote from it
    if (one.name === 'TimeoutError') return 'it did not answer in time'
    said = one.message
    one = one.cause
  }
  return sanitize(said)
}

function answered({ status, headers }: Response): string {
  const to = headers.get('location')
  if (to !== null) return sanitize(`it answered ${status} and would send us to ${to}, where nobody follows`)
  return sanitize(`it answered ${status} with ${headers.get('content-type') ?? 'no content-type'}`)
}

/** What openid-client says of metadata that are another's. */
function isOtherIssuer(cause: unknown): cause is { readonly body: { readonly issuer: unknown } } {
  return typeof cause === 'object' && cause !== null && 'attribute' in cause && cause.attribute === 'issuer'
}

function spelled(issuer: unknown): string {
  return sanitize(`it calls itself ${JSON.stringify(issuer)}: the option issuer must be spelled like that`)
}

/**
 * Says what is wrong with the metadata of an OP, before a browser is sent anywhere by them; `undefined` when nothing is.
 *
 * An issuer is compared letter by letter (Discovery §4.3). One that differs by a slash at its end, or that openid-client lets
 * pass for a tenant's, would let everybody in, and then refuse every Logout Token. An OP on https has no endpoint that is
 * not: whoever sits between us and keys that come in the clear ends whom he likes.
 */
export function whatIsWrongWith(
  metadata: ServerMetadata,
  { issuer, allowHttp }: { readonly issuer: string; readonly allowHttp: boolean },
): string | undefined {
  if (metadata.issuer !== issuer) return spelled(metadata.issuer)
  const schemes = allowHttp ? ['https:', 'http:'] : ['https:']
  const isWrong = (name: string) => !isUrlOf(schemes, metadata[name])
  const needed = ['authorization_endpoint', 'token_endpoint', 'jwks_uri'].filter(isWrong)
  const others = ['userinfo_endpoint', 'revocation_endpoint', 'end_session_endpoint', 'check_session_iframe'].filter(
    (name) => metadata[name] !== undefined && isWrong(name),
  )
  const [wrong] = [...needed, ...others]
  return wrong === undefined ? undefined : `its ${wrong} is no URL that begins with ${schemes.join(' or ')}`
}

function isUrlOf(schemes: readonly string[], value: unknown): boolean {
  return typeof value === 'string' && URL.canParse(value) && schemes.includes(new URL(value).protocol)
}
