import type { KoaContextWithOIDC } from 'oidc-provider'
import type { KeptModel } from '../store/contract.ts'

/** The interaction that a request goes on with. */
const interactions: WeakMap<object, KeptModel> = new WeakMap()

/** Notes the interaction that was read for a request. */
export function noteInteraction(ctx: object | undefined, model: KeptModel): void {
  if (ctx) interactions.set(ctx, model)
}

/** The interaction that was read for this request. */
export function interactionOf(ctx: KoaContextWithOIDC | undefined): KeptModel | undefined {
  return ctx && interactions.get(ctx)
}
