import { deepEqual, equal, ok, rejects } from 'node:assert/strict'
import type { OpIssuerStore, PlannedDelivery } from '../op/store/contract.ts'
import { byClient, issuer, type Law, loggedIn, type OpStoreBench, opSession, owe } from './op-store-bench.ts'

/** Milliseconds by which a node's clock is wrong: far more than any lease lasts. */
const skew = 600_000

const tellAll = (rps: readonly PlannedDelivery[]): readonly PlannedDelivery[] => rps

/** What an OP store promises when several nodes share it, each with a pool, a memory and a clock of its own. */
export function nodesContract(law: Law): void {
  const several = (
    name: string,
    body: (bench: OpStoreBench & { nodes: [OpIssuerStore, OpIssuerStore, OpIssuerStore] }) => Promise<void>,
  ): void =>
    law(name, async (bench) => {
      const { reopen } = bench
      ok(reopen)
      const stores = await Promise.all([1, 2, 3].map(() => reopen()))
      try {
        const [a, b, c] = stores.map((store) => store.forIssuer(issuer, bench.runtime))
        ok(a && b && c)
        await body({ ...bench, nodes: [a, b, c] })
      } finally {
        await Promise.all(stores.map((store) => store.close()))
      }
    })

  several('makes a secret once when all nodes start at the same moment', async ({ nodes }) => {
    const made = await Promise.all(nodes.map((node, i) => node.secret('keys', async () => `of node ${i}`)))
    equal(new Set(made).size, 1)
  })

  several('merges the logins of one browser that different nodes serve', async ({ nodes, runtime }) => {
    const names = Array.from({ length: 20 }, (_, i) => `rp-${i}`)
    await Promise.all(
      names.map((name, i) => (nodes[i % 3] ?? nodes[0]).saveOpSession(opSession(runtime, { rps: [loggedIn(name)] }))),
    )
    for (const node of nodes) {
      const found = await node.getOpSession({ handle: 'handle-1' })
      deepEqual(byClient(found?.rps), byClient(names.map((name) => loggedIn(name))))
    }
  })

  several('gives the tabs of one RP the same sid, whichever nodes they meet', async ({ nodes }) => {
    const claims = await Promise.all(
      nodes.map((node, i) => node.claimLogin('uid-1', { clientId: 'notes', sid: `${i}`, grantId: `g${i}` })),
    )
    for (const claim of claims) deepEqual(claim, claims[0])
  })

  law('refuses what is older by one clock, however far those of the nodes are apart [T2]', async (bench) => {
    const { store, runtime } = bench
    const [ahead, behind] = [skew, -skew].map((by) =>
      store.forIssuer(issuer, { ...runtime, now: () => runtime.now() + by }),
    )
    ok(ahead && behind)
    const write = (uid: string): ReturnType<typeof opSession> =>
      opSession(runtime, { uid, handle: uid, expiresAt: Math.floor(runtime.now() / 1000) + 86_400 })
    await ahead.saveOpSession(write('before'))
    runtime.pass(1)
    const job = await behind.endAll('everyone', { cause: 'admin', revokeOffline: true })
    equal(job.notBefore, runtime.now() - skew)
    runtime.pass(1)
    equal(await ahead.getOpSession({ uid: 'before' }), undefined)
    equal(await ahead.saveOpSession(write('before')), 'ended')
    await behind.saveOpSession(write('after'))
    ok(await ahead.getOpSession({ uid: 'after' }))
    const claimed = await ahead.claimEndJob({ limit: 10, lease: 1000 })
    deepEqual(
      claimed?.next.map(({ uid }) => uid),
      ['before'],
    )
    const [ended] = await ahead.endOpSessions(['before'], { cause: 'admin' }, tellAll, { id: job.id, pause: 0 })
    equal(ended?.logout.endedAt, runtime.now() + skew - 1)
  })

  several('answers one of the nodes that confirm the last deliveries of a logout at the same moment', async (bench) => {
    const [a, b] = bench.nodes
    for (let i = 0; i < 20; i++) {
      const { logout } = await owe(bench, `uid-${i}`, ['notes', 'mail'])
      const confirm = async (node: OpIssuerStore, later: number): Promise<unknown> => {
        const [claimed] = await node.claimDue({ limit: 1, lease: 1000 })
        ok(claimed)
        const finishedAt = bench.runtime.now() + later // by its own clock, which says nothing of who writes first
        const times = { dueAt: 0, startedAt: 0, finishedAt }
        ok(await node.settle(claimed, { ...times, outcome: { state: 'delivered', status: 200 } }))
        return node.notePropagation(logout.id)
      }
      const answers = await Promise.all([confirm(a, i % 3), confirm(b, 1)])
      equal(answers.filter((answer) => answer !== undefined).length, 1)
    }
  })

  law('judges the age of a replaced cookie by one clock, however far those of the nodes are apart', async (bench) => {
    const { store, runtime } = bench
    const [ahead, behind] = [300_000, -300_000].map((by) =>
      store.forIssuer(issuer, { ...runtime, now: () => runtime.now() + by }),
    )
    ok(ahead && behind)
    for (const [retires, asks] of [
      [ahead, behind],
      [behind, ahead],
    ] as const) {
      const uid: string = retires === ahead ? 'ahead' : 'behind'
      await asks.saveOpSession(opSession(runtime, { uid, handle: uid }))
      await asks.saveOpSession(opSession(runtime, { uid, handle: `${uid}, new` }))
      await retires.retireHandle(uid)
      runtime.pass(59_000)
      equal((await asks.getRotated(uid, 60))?.uid, uid)
      runtime.pass(2_000)
      equal(await asks.getRotated(uid, 60), undefined)
    }
  })

  several('works off one job with all nodes, each OP session once', async ({ nodes, op, runtime }) => {
    const uids = Array.from({ length: 30 }, (_, i) => `uid-${i}`)
    for (const uid of uids) {
      await op.saveOpSession(
        opSession(runtime, { uid, handle: uid, rps: [loggedIn('notes', { sid: uid, grantId: uid })] }),
      )
    }
    runtime.pass(1)
    const { id } = await op.endAll('everyone', { cause: 'admin' })
    const work = async (node: OpIssuerStore): Promise<number> => {
      let ended = 0
      while ((await node.getEndJob(id))?.state === 'running') {
        // no lease: they get into each other's way as often as they can
        const claimed = await node.claimEndJob({ limit: 4, lease: 0 })
        const batch = claimed?.next.map(({ uid }) => uid) ?? []
        ended += (await node.endOpSessions(batch, { cause: 'admin' }, tellAll, { id, pause: 0 })).length
      }
      return ended
    }
    const ended = await Promise.all(nodes.map(work))
    equal(
      ended.reduce((sum, each) => sum + each),
      uids.length,
    )
    equal((await op.getEndJob(id))?.ended, uids.length)
    equal((await op.claimDue({ limit: 100, lease: 1000 })).length, uids.length)
  })

  several('ends an OP session once, and brings it back on no node', async ({ nodes, op, runtime }) => {
    for (let round = 0; round < 20; round++) {
      const uid = `uid-${round}`
      const grantId = `grant-${round}`
      const write = opSession(runtime, { uid, handle: uid, rps: [loggedIn('notes', { grantId })] })
      await op.saveOpSession(write)
      const token = { kind: 'RefreshToken', handle: uid, payload: {}, grantId }
      const [first, second, , , rotated] = await Promise.all([
        nodes[0].endOpSession(uid, { cause: 'op_logout' }, tellAll),
        nodes[1].endOpSession(uid, { cause: 'admin' }, tellAll),
        nodes[2].putModel(token),
        nodes[1].saveOpSession(write),
        nodes[2].saveOpSession({ ...write, handle: `${uid} rotated` }),
      ])
      equal([first, second].filter((ended) => ended !== undefined).length, 1)
      ok(rotated === 'saved' || rotated === 'ended')
      for (const node of nodes) {
        equal(await node.saveOpSession(write), 'ended')
        equal(await node.getOpSession({ uid }), undefined)
        equal(await node.getOpSession({ handle: uid }), undefined)
        equal(await node.getOpSession({ handle: `${uid} rotated` }), undefined)
        equal(await node.getModel('RefreshToken', { handle: uid }), undefined)
        await rejects(node.claimLogin(uid, { clientId: 'mail', sid: 's', grantId: 'g' }), {
          code: 'op_session_ended',
        })
      }
    }
  })

  several('never leases one delivery to two nodes', async (bench) => {
    const { nodes } = bench
    for (let i = 0; i < 20; i++) await owe(bench, `u${i}`, ['a', 'b', 'c'])
    const claims = await Promise.all(
      [...nodes, ...nodes].map((node) => node.claimDue({ limit: 30, lease: 60_000, room: () => 30 })),
    )
    const rest = await nodes[0].claimDue({ limit: 60, lease: 60_000, room: () => 60 })
    const ids = [...claims, rest].flat().map(({ id }) => id)
    equal(ids.length, 60)
    equal(new Set(ids).size, 60)
  })

  several('has no two live attempts of one delivery, however nodes retry, drop and claim at once', async (bench) => {
    const { nodes, op, runtime } = bench
    for (let i = 0; i < 10; i++) await owe(bench, `u${i}`, ['a', 'b', 'c'])
    for (const claimed of await op.claimDue({ limit: 30, lease: 60_000, room: () => 30 })) {
      const times = { dueAt: runtime.now(), startedAt: runtime.now(), finishedAt: runtime.now() }
      await op.settle(claimed, { ...times, outcome: { state: 'dead', why: 'horizon' } })
    }
    const ids: string[] = []
    let dropped = 0
    let retried = 0
    const operate = async (node: OpIssuerStore, turn: number): Promise<void> => {
      for (let round = 0; round < 6; round++) {
        // awaited before they are added: the others count meanwhile
        const tried = await node.retryDeliveries({}, 4)
        const gone = turn === round ? await node.dropDeliveries({ clientId: 'b' }, 'eve', 2) : 0
        retried += tried
        dropped += gone
        const claimed = await node.claimDue({ limit: 5, lease: 600_000, room: () => 5 })
        ids.push(...claimed.map(({ id }) => id))
      }
    }
    await Promise.all(nodes.map(operate))
    while ((await op.retryDeliveries({}, 30)) > 0);
    ids.push(...(await op.claimDue({ limit: 30, lease: 600_000, room: () => 30 })).map(({ id }) => id))
    equal(new Set(ids).size, ids.length)
    const idsIn = async (state: 'dropped' | 'in-flight'): Promise<string[]> => {
      const { deliveries } = await op.listDeliveries({ state }, { limit: 30 })
      return deliveries
        .filter(({ lastOutcome }) => lastOutcome?.state === 'dead' && lastOutcome.why === 'dropped')
        .map(({ id }) => id)
    }
    const gone = await idsIn('dropped')
    equal(ids.length + gone.length, 30)
    equal(gone.length + (await idsIn('in-flight')).length, dropped) // those in flight are dropped by the attempt under way
    ok(retried > 0)
  })

  several('tells on one node only that an RP has been in trouble for long', async ({ nodes, runtime }) => {
    const times = { tellAfter: 1000, pause: 10_000 }
    await nodes[0].noteTrouble('a', times)
    runtime.pass(1000)
    const told = await Promise.all([...nodes, ...nodes].map((node) => node.noteTrouble('a', times)))
    deepEqual(
      told.filter(({ isToTell }) => isToTell),
      [{ since: runtime.now() - 1000, isToTell: true }],
    )
  })

  several('leaves a lease alone until it has run out, when another node starts', async (bench) => {
    const { nodes, runtime } = bench
    await owe(bench, 'u', ['a'])
    const [held] = await nodes[0].claimDue({ limit: 1, lease: 30_000 })
    ok(held)
    equal(await nodes[1].takeOver(), 0)
    runtime.pass(29_999)
    deepEqual(await nodes[1].claimDue({ limit: 1, lease: 30_000 }), [])
    runtime.pass(1)
    const [taken] = await nodes[1].claimDue({ limit: 1, lease: 30_000 })
    equal(taken?.id, held.id)
    const outcome = { dueAt: 0, startedAt: 0, finishedAt: 0, outcome: { state: 'delivered', status: 200 } } as const
    equal(await nodes[0].settle(held, outcome), false)
  })

  law('keeps leases and due times whatever the clocks of the nodes say', async (bench) => {
    const { store, op, runtime } = bench
    const ahead = store.forIssuer(issuer, { ...runtime, now: () => runtime.now() + skew })
    const behind = store.forIssuer(issuer, { ...runtime, now: () => runtime.now() - skew })
    await owe(bench, 'u', ['a'])
    // A node whose clock is behind leases, one whose clock is ahead must not think that the lease has run out.
    const [held] = await behind.claimDue({ limit: 1, lease: 30_000 })
    ok(held)
    deepEqual(await ahead.claimDue({ limit: 1, lease: 30_000 }), [])
    equal(await op.nextDueAt(), runtime.now() + 30_000)
    equal(await ahead.nextDueAt(), runtime.now() + skew + 30_000)
    runtime.pass(30_000)
    // Nor must a lease of the node that is ahead last longer for the others than it was taken for.
    const [taken] = await ahead.claimDue({ limit: 1, lease: 30_000 })
    equal(taken?.id, held.id)
    deepEqual(await behind.claimDue({ limit: 1, lease: 30_000 }), [])
    const retryAt = runtime.now() + skew + 5_000 // in five seconds, as that node says it
    const finished = { dueAt: runtime.now() + skew, startedAt: runtime.now() + skew, finishedAt: runtime.now() + skew }
    equal(
      await ahead.settle(taken ?? held, {
        ...finished,
        outcome: { state: 'due', retryAt, why: 'status', status: 503 },
      }),
      true,
    )
    equal(await behind.nextDueAt(), runtime.now() - skew + 5_000)
    runtime.pass(4_999)
    deepEqual(await ahead.claimDue({ limit: 1, lease: 30_000 }), [])
    runtime.pass(1)
    equal((await behind.claimDue({ limit: 1, lease: 30_000 })).length, 1)
  })

  law('brings nothing back through a node whose clock is wrong', async ({ store, op, runtime }) => {
    const ahead = store.forIssuer(issuer, { ...runtime, now: () => runtime.now() + skew })
    const behind = store.forIssuer(issuer, { ...runtime, now: () => runtime.now() - skew })
    const write = opSession(runtime, { rps: [loggedIn('notes')] })
    await behind.saveOpSession(write)
    await behind.endOpSession('uid-1', { cause: 'op_logout' }, tellAll)
    await ahead.deleteModel('Interaction', 'any') // a turn of cleaning
    for (const node of [ahead, behind, op]) equal(await node.saveOpSession(write), 'ended')
  })

  several('lets another node hear that there are deliveries [T18]', async (bench) => {
    const [node] = bench.nodes
    ok(node.onWake)
    let hear = (): void => {}
    const stop = node.onWake(() => hear())
    await node.nextDueAt() // a worker asks this before it sleeps: from now on it hears
    const heard = new Promise<void>((resolve) => {
      hear = resolve
    })
    await owe(bench, 'u', ['a'])
    await heard
    equal((await node.claimDue({ limit: 1, lease: 1000 })).length, 1)
    stop()
  })
}
