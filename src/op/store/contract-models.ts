/** An oidc-provider model as the store keeps it: found by a hash, never by the bearer value itself (T6). */
export interface StoredModel {
  readonly kind: string
  readonly handle: string
  readonly payload: Readonly<Record<string, unknown>>
  /** Epoch seconds; absent for what never expires. */
  readonly expiresAt?: number
  /** The grant it falls with; of a Grant its own id. */
  readonly grantId?: string
  /** Whose it is; of an Interaction, who signed in there. Absent for what belongs to nobody (a client's registration). */
  readonly accountId?: string
  readonly clientId?: string
  /** Hash of a second name the model is found by (a device flow's user code). */
  readonly alias?: string
}

/** A model as it is given back. */
export interface KeptModel extends StoredModel {
  /** Epoch milliseconds of the first `putModel` under its handle; of a model under a grant, of its Grant (T2). */
  readonly since: number
}

/** What oidc-provider keeps, and the OP's own secrets. */
export interface ModelStore {
  /** Returns the secret of that name, made once by `make` and then the same on every node until it is replaced. */
  secret(name: string, make: () => Promise<string>): Promise<string>
  /** Replaces a secret, if it still has the value that was read; `false` when somebody else replaced it meanwhile. */
  replaceSecret(name: string, from: string, to: string): Promise<boolean>

  /** Stores or replaces a model; does nothing when its grant was revoked, or when `endAll` refuses it. */
  putModel(model: StoredModel): Promise<void>
  getModel(kind: string, by: { handle: string } | { alias: string }): Promise<KeptModel | undefined>
  /** Living models of a kind in the order of their handles, up to `limit` of those that come after `after`. */
  listModels(kind: string, page: { after: string; limit: number }): Promise<readonly KeptModel[]>
  /** Marks the model as used (`consumed` in its payload, epoch seconds). */
  consumeModel(kind: string, handle: string): Promise<void>
  deleteModel(kind: string, handle: string): Promise<void>
  deleteModelsByGrant(kind: string, grantId: string): Promise<void>
}
