import { type Configuration, interactionPolicy, type KoaContextWithOIDC } from 'oidc-provider'
import { toKoa } from './http.ts'
import type { ShownError } from './show-error.ts'
import { isStranger, isUnseen } from './unseen.ts'

/** The prompt by which an RP sends a user to where accounts are made. */
const CREATE = 'create'

/** Lockstep's steps of an interaction policy. */
export interface PolicySteps {
  readonly firstPrompt: interactionPolicy.Prompt
  readonly lastPrompt: interactionPolicy.Prompt
  readonly promptCreate: boolean
}

/**
 * The operator's interaction policy with Lockstep's steps: the one that guards silent checks first, then `create`, where it
 * is switched on and not there yet, and the step that records the login last.
 *
 * @see {@link https://openid.net/specs/openid-connect-prompt-create-1_0.html | Initiating User Registration 1.0}
 */
export function completePolicy(
  { firstPrompt, lastPrompt, promptCreate }: PolicySteps,
  given: readonly interactionPolicy.Prompt[] = interactionPolicy.base(),
): interactionPolicy.DefaultPolicy {
  const policy = interactionPolicy.base()
  policy.clear()
  policy.push(...given, lastPrompt)
  if (promptCreate && !policy.get(CREATE)) {
    policy.add(new interactionPolicy.Prompt({ name: CREATE, requestable: true }), 0)
  }
  policy.add(firstPrompt, 0)
  return policy
}

/** What `prompt_values_supported` says: all that can be asked for, `none` included (Prompt Create §4.2). */
export function promptValues(policy: readonly interactionPolicy.Prompt[]): readonly string[] {
  return ['none', ...policy.filter(({ requestable }) => requestable).map(({ name }) => name)]
}

/**
 * The refusal of a request whose prompt this OP does not support, naming the value; `undefined` when all are supported.
 * It is a 400 on a page of the OP, not a redirect (Prompt Create §4.1).
 */
export function refusedPrompt({ oidc }: KoaContextWithOIDC, configuration: Configuration): ShownError | undefined {
  const supported = new Set(promptValues(configuration.interactions?.policy ?? []))
  const { prompt } = oidc.params ?? {}
  const refused =
    typeof prompt === 'string' ? prompt.split(' ').find((value) => value !== '' && !supported.has(value)) : undefined
  if (refused === undefined) return undefined
  const description = `unsupported prompt value: ${printable(refused)}`
  return { status: 400, error: 'invalid_request', error_description: description, words: 'refusedPrompt' }
}

/** Text of an app, for an error description: RFC 6749 allows printable ASCII without quotation marks. */
function printable(text: string): string {
  return text.replaceAll(/[^\w.-]/g, '?').slice(0, 40)
}

/**
 * Whether an error, which another site gets because somebody is signed in, would tell it so: a site whom the user does not see
 * and that knows nothing of him (T33). What follows from an interaction may be told, since there he saw who asked.
 *
 * prompt=none does not get here: it was answered before anybody was looked for.
 */
export function betraysSomebody(ctx: KoaContextWithOIDC, payload: object): boolean {
  const { Grant: ofSomebody, Interaction } = ctx.oidc.entities
  return 'error' in payload && ofSomebody !== undefined && !Interaction && isUnseen(ctx) && isStranger(ctx)
}

/** The page in place of such an error: nobody signed in would get the page to sign in, in the same frame. */
export function showNothing(ctx: KoaContextWithOIDC): void {
  const body = 'Sign in to this app in a tab of its own: it cannot be done in a frame.'
  toKoa(ctx, { status: 403, headers: { 'cache-control': 'no-store', 'content-type': 'text/plain' }, body })
}
