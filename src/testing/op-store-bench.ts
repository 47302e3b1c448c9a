import type { EndedOpSession, LoggedInRp, OpIssuerStore, OpSessionWrite, OpStore } from '../op/store/contract.ts'

/** What each test is given. */
export interface OpStoreBench {
  readonly store: OpStore
  /** The store as the bench's issuer sees it. */
  readonly op: OpIssuerStore
  readonly runtime: TestRuntime
  reopen?(): Promise<OpStore>
}

/** A clock that stands still until it is moved, and random bytes that never repeat. */
export interface TestRuntime {
  now(): number
  random(bytes: number): Uint8Array<ArrayBuffer>
  /** Moves the clock, in milliseconds. */
  pass(milliseconds: number): void
}

/** Registers one test of a suite. */
export type Law = (name: string, body: (bench: OpStoreBench) => Promise<void>) => void

/** The issuer of the suites' store. */
export const issuer = 'https://op.example'

/** A {@link TestRuntime} that starts at a fixed time. */
export function testRuntime(): TestRuntime {
  let now = 1_800_000_000_000
  let made = 0
  return {
    now: () => now,
    random: (length) => {
      const bytes = new Uint8Array(length)
      new DataView(bytes.buffer).setUint32(0, ++made)
      return bytes
    },
    pass: (milliseconds) => {
      now += milliseconds
    },
  }
}

/** A write of an OP session that lives an hour, with what the test says instead. */
export function opSession(runtime: TestRuntime, over: Partial<OpSessionWrite> = {}): OpSessionWrite {
  return {
    uid: 'uid-1',
    handle: 'handle-1',
    accountId: 'alice',
    payload: { loginTs: 1 },
    rps: [],
    expiresAt: Math.floor(runtime.now() / 1000) + 3600,
    extend: true,
    ...over,
  }
}

/** A logged-in RP named after its client. */
export function loggedIn(clientId: string, over: Partial<LoggedInRp> = {}): LoggedInRp {
  return { clientId, sid: `sid-${clientId}`, grantId: `grant-${clientId}`, persistsLogout: false, ...over }
}

/** Signs in at these RPs and ends the OP session, so that each is owed a notice. */
export async function owe(
  { op, runtime }: Pick<OpStoreBench, 'op' | 'runtime'>,
  uid: string,
  clientIds: readonly string[],
): Promise<EndedOpSession> {
  const rps = clientIds.map((clientId) =>
    loggedIn(clientId, { sid: `sid-${uid}-${clientId}`, grantId: `grant-${uid}-${clientId}` }),
  )
  await op.saveOpSession(opSession(runtime, { uid, handle: `handle-${uid}`, rps }))
  const ended = await op.endOpSession(uid, { cause: 'op_logout' }, (told) =>
    told.map(({ clientId, sid }) => ({ clientId, sid })),
  )
  if (!ended) throw new Error(`${uid} was not alive`)
  return ended
}

/** RPs of an OP session have no order. */
export function byClient(rps: readonly LoggedInRp[] | undefined): LoggedInRp[] {
  return [...(rps ?? [])].sort((a, b) => (a.clientId < b.clientId ? -1 : 1))
}
