import type { Adapter } from 'oidc-provider'

const refuse = async (): Promise<never> => {
  throw new Error('oidc-provider called a storage method that this model does not have')
}

/** Every method of an adapter; each model has those that oidc-provider calls on it. */
export const unsupported: Adapter = {
  upsert: refuse,
  find: refuse,
  findByUserCode: refuse,
  findByUid: refuse,
  consume: refuse,
  destroy: refuse,
  revokeByGrantId: refuse,
}
