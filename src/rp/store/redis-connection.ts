import { type Cluster, Redis, type RedisOptions } from 'ioredis'
import { LockstepError } from '../../protocol/errors.ts'
import { isProtected, notProtected, placeOf, refuseInsecure } from './redis-protection.ts'
import type { Script } from './redis-script.ts'
import { time } from './redis-scripts.ts'
import { writeTogether } from './redis-writes.ts'

/** Where Redis is: a URL, options of ioredis (Sentinel too), or the app's own instance, of which copies are made. */
export type RedisPlace = string | RedisOptions | Redis | Cluster

/** A connection of the store's own. */
export interface RedisConnection {
  /** Runs a script whose keys all begin with `base`. */
  run(script: Script, base: string, ...args: readonly string[]): Promise<unknown>
  /** Runs it, then waits until `replicas` have it; says how many do. */
  runAndWait(script: Script, base: string, args: readonly string[], wait: ReplicaWait): Promise<Confirmed>
  subscribe(channel: string): Promise<void>
  onMessage(listener: (message: string) => void): void
  /** Called when the connection breaks. */
  onLost(listener: () => void): void
  /** Called whenever it is connected again, and when a server joins or leaves the cluster. */
  onReady(listener: () => void): void
  close(): Promise<void>
}

export interface ReplicaWait {
  readonly replicas: number
  /** Milliseconds. */
  readonly timeout: number
}

export interface Confirmed {
  readonly result: unknown
  /** How many replicas have it; with WAITAOF, on their disks. `undefined` when the connection broke before the answer. */
  readonly replicas: number | undefined
  /** False when the server itself was asked to have it on its disk, and has not. */
  readonly isLocal: boolean
}

/** What the start found out about the servers. */
interface Nature {
  /** WAITAOF is known, and the server keeps an append-only file. */
  readonly canWaitForDisk: boolean
}

/**
 * A command is sent once. What ioredis would send again after a broken connection may have been done already, and a Logout
 * Token that comes twice is a replay; so it fails at once, and the OP comes again. Scripts go to the master only.
 */
const ours = {
  lazyConnect: true,
  maxRetriesPerRequest: 0,
  autoResendUnfulfilledCommands: false,
  enableOfflineQueue: true,
  enableReadyCheck: true,
  enableAutoPipelining: false,
  readOnly: false,
  stringNumbers: false,
  protocol: 2,
  replyMapping: 'legacy',
  connectTimeout: 5_000 as number,
  commandTimeout: 2_000 as number, // twice, with taking a claim back, is less than an OP waits
  retryStrategy: (times: number) => Math.min(times * 50, 1_000),
  // The master became a replica: look for the new one.
  reconnectOnError: (error: Error) => error.message.startsWith('READONLY'),
} as const satisfies RedisOptions

interface ConnectionOptions {
  readonly allowInsecure: boolean
  /** Milliseconds that a command must be given at least. */
  readonly patience?: number
}

/**
 * Opens one more connection to a place; the first command connects.
 *
 * @throws TypeError when it would lead over the network without TLS and authentication (T19).
 */
export function openRedis(place: RedisPlace, { allowInsecure, patience = 0 }: ConnectionOptions): RedisConnection {
  const client = copyOf(place, patience)
  if (!allowInsecure) refuseInsecure(client)
  client.on('error', () => {}) // whoever runs a command hears of it
  const name = placeOf(client)
  let checking: Promise<Nature> | undefined
  // Another server may answer after a reconnect or a failover: it is looked at before it is used.
  for (const event of ['close', '+node']) {
    client.on(event, () => {
      checking = undefined
    })
  }
  const checked = (): Promise<Nature> => {
    if (checking) return checking
    const running = check(client, allowInsecure)
    checking = running
    running.catch(() => {
      if (checking === running) checking = undefined
    })
    return running
  }
  let isListening = false
  const asFailure = (error: unknown): LockstepError => failed(error, name)

  return {
    async run(script, base, ...args) {
      try {
        await checked()
        return await evaluate(client, script, base, args)
      } catch (error) {
        throw asFailure(error)
      }
    },
    async runAndWait(script, base, args, wait) {
      try {
        const { canWaitForDisk } = await checked()
        return await evaluateAndWait(client, script, base, args, wait, canWaitForDisk)
      } catch (error) {
        throw asFailure(error)
      }
    },
    async subscribe(channel) {
      try {
        // A connection that listens takes no other commands; all it ever hears is hints.
        if (!isListening) await checked()
        isListening = true
        await client.subscribe(channel)
      } catch (error) {
        throw asFailure(error)
      }
    },
    onMessage(listener) {
      client.on('message', (_channel: string, message: string) => listener(message))
    },
    onLost(listener) {
      client.on('close', listener)
    },
    onReady(listener) {
      for (const event of ['ready', '+node', '-node']) client.on(event, listener)
    },
    async close() {
      if (client.status === 'ready') await client.quit().catch(() => undefined)
      client.disconnect()
    },
  }
}

function copyOf(place: RedisPlace, patience: number): Redis | Cluster {
  if (typeof place === 'string') return new Redis(place, { ...ours, ...timeoutsOf({}, patience) })
  if (!('duplicate' in place)) return new Redis({ ...place, ...ours, ...timeoutsOf(place, patience) })
  if (!place.isCluster)
    return (place as Redis).duplicate({ ...ours, ...timeoutsOf((place as Redis).options, patience) })
  const { retryStrategy: _one, lazyConnect, enableOfflineQueue: _two, readOnly: _three, ...each } = ours
  const { redisOptions } = (place as Cluster).options
  return (place as Cluster).duplicate([], {
    lazyConnect,
    enableOfflineQueue: false, // it has no end while the cluster is away
    scaleReads: 'master',
    enableAutoPipelining: false,
    retryDelayOnFailover: 0, // or it would send again what was on its way
    redisOptions: { ...each, ...timeoutsOf(redisOptions ?? {}, patience) },
  })
}

/** The time-outs that the app has chosen, else ours. */
function timeoutsOf({ connectTimeout, commandTimeout }: Timeouts, patience: number): ChosenTimeouts {
  return {
    connectTimeout: connectTimeout ?? ours.connectTimeout,
    commandTimeout: Math.max(commandTimeout ?? ours.commandTimeout, patience),
  }
}

interface ChosenTimeouts {
  readonly connectTimeout: number
  readonly commandTimeout: number
}

type Timeouts = Pick<RedisOptions, 'connectTimeout' | 'commandTimeout'>

async function evaluate(client: Redis | Cluster, { lua, sha }: Script, base: string, args: readonly string[]) {
  if (sha === undefined) return client.eval(lua, 1, base, ...args)
  writeTogether(client)
  try {
    return await client.evalsha(sha, 1, base, ...args)
  } catch (error) {
    if (!isUnknownScript(error)) throw error
    return client.eval(lua, 1, base, ...args)
  }
}

/** The script and the wait in one write, on one connection: WAIT is about what this connection has written. */
async function evaluateAndWait(
  client: Redis | Cluster,
  { lua, sha }: Script,
  base: string,
  args: readonly string[],
  { replicas, timeout }: ReplicaWait,
  onDisk: boolean,
): Promise<Confirmed> {
  const send = (isKnown: boolean) => {
    const pipeline = client.pipeline()
    if (isKnown && sha !== undefined) pipeline.evalsha(sha, 1, base, ...args)
    else pipeline.eval(lua, 1, base, ...args)
    if (onDisk) pipeline.call('WAITAOF', 1, replicas, timeout)
    else pipeline.wait(replicas, timeout)
    return pipeline.exec()
  }
  let answers = await send(true)
  if (isMoved(answers?.[0]?.[0])) {
    // A pipeline does not follow, since its WAIT was answered; a single command does, and learns where the slot is now.
    await evaluate(client, time, base, [''])
    answers = await send(true)
  }
  if (isUnknownScript(answers?.[0]?.[0])) answers = await send(false)
  const [[failure, result] = [new Error('no answer')], [waitFailure, confirmed] = [new Error('no answer')]] =
    answers ?? []
  if (failure) throw failure
  if (waitFailure) return { result, replicas: undefined, isLocal: true }
  if (!onDisk) return { result, replicas: Number(confirmed), isLocal: true }
  const [local = 0, remote = 0] = Array.isArray(confirmed) ? confirmed.map(Number) : []
  return { result, replicas: remote, isLocal: local > 0 }
}

function isUnknownScript(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith('NOSCRIPT')
}

/** Another server of the cluster has the slot; nothing was done. */
function isMoved(error: unknown): boolean {
  return error instanceof Error && error.message.startsWith('MOVED')
}

/**
 * Looks at every master before it is used (T19). One of a cluster that is away is looked at when it is back; it then counts
 * as new.
 */
async function check(client: Redis | Cluster, allowInsecure: boolean): Promise<Nature> {
  const looks = await Promise.allSettled((await mastersOf(client)).map((node) => lookAt(node, allowInsecure)))
  const natures = looks.flatMap((look) => (look.status === 'fulfilled' ? [look.value] : []))
  for (const look of looks) {
    const isRefusal = look.status === 'rejected' && look.reason instanceof LockstepError
    if (look.status === 'rejected' && (isRefusal || natures.length === 0)) throw look.reason
  }
  if (natures.length === 0) throw new Error('no server of the cluster can be reached')
  return { canWaitForDisk: natures.every(({ canWaitForDisk }) => canWaitForDisk) }
}

async function lookAt(node: Redis, allowInsecure: boolean): Promise<Nature> {
  const info = new Map(
    (await node.info()).split('\r\n').map((line): [string, string] => {
      const [name = '', ...value] = line.split(':')
      return [name, value.join(':')]
    }),
  )
  const policy = info.get('maxmemory_policy')
  if (policy !== 'noeviction') {
    throw new LockstepError(
      'store_not_durable',
      `Redis at ${placeOf(node)} runs with maxmemory-policy ${policy} and may throw RP sessions away: set it to noeviction`,
    )
  }
  if (!allowInsecure && !isProtected(node)) {
    throw new LockstepError('store_failed', `the connection to Redis at ${placeOf(node)} ${notProtected}`)
  }
  const [known] = (await node.call('COMMAND', 'INFO', 'WAITAOF')) as readonly unknown[]
  return { canWaitForDisk: Array.isArray(known) && info.get('aof_enabled') === '1' }
}

async function mastersOf(client: Redis | Cluster): Promise<readonly Redis[]> {
  if (!client.isCluster) return [client as Redis]
  const cluster = client as Cluster
  if (cluster.status === 'wait') await cluster.connect()
  else if (cluster.status !== 'ready') await settled(cluster)
  return cluster.nodes('master')
}

/** Resolves when a cluster that is being connected is ready, and rejects when that has failed. */
function settled(cluster: Cluster): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => cluster.off('ready', isReady).off('close', isAway).off('end', isAway)
    const isReady = () => {
      stop()
      resolve()
    }
    const isAway = () => {
      stop()
      reject(new Error('no server of the cluster can be reached'))
    }
    cluster.on('ready', isReady).on('close', isAway).on('end', isAway)
    if (cluster.status === 'end') isAway()
  })
}

function failed(cause: unknown, place: string): LockstepError {
  if (cause instanceof LockstepError) return cause
  // ioredis keeps the whole command with its error, and with it everything that was to be stored.
  if (typeof cause === 'object' && cause !== null) Reflect.deleteProperty(cause, 'command')
  const why = cause instanceof Error ? cause.message : String(cause)
  return new LockstepError('store_failed', `Redis at ${place} failed: ${why}`, { cause })
}
