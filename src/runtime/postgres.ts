import { Client, type ClientBase, DatabaseError, Pool, type PoolClient } from 'pg'
import { LockstepError } from '../protocol/errors.ts'
import type { ResolvedPostgresOptions } from './postgres-connection.ts'
import { postgresSockets } from './postgres-sockets.ts'
import { toText } from './postgres-text.ts'

/** A statement that is parsed once per connection; `row` only carries the type of its rows. */
export interface Statement<Row> {
  readonly name: string
  readonly text: string
  readonly row?: Row
}

/** What a statement may be given. */
export type Value = string | number | boolean | null | readonly (string | number | boolean | null)[]

/** Where statements run: a connection inside a transaction, or any connection of the pool, each by itself. */
export interface Queries {
  /** The rows that a statement answers. */
  all<Row>(statement: Statement<Row>, ...values: readonly Value[]): Promise<Row[]>
  /** Its first row. */
  first<Row>(statement: Statement<Row>, ...values: readonly Value[]): Promise<Row | undefined>
  /** How many rows it changed. */
  change(statement: Statement<unknown>, ...values: readonly Value[]): Promise<number>
}

/** Queries that also take SQL without values, several statements at once where need be: a schema's next step. */
export interface Commands extends Queries {
  command(text: string): Promise<void>
}

/** What happens inside a transaction. */
export type Work<Result> = (queries: Commands) => Promise<Result>

/** A pool of connections whose commits survive the loss of power. */
export interface Postgres extends Queries {
  /**
   * Runs `work` in a transaction: all of it happens, or nothing. It may run again after a deadlock, from its beginning.
   *
   * @param soon Does not wait for the disk: a loss of power may undo it, whole.
   */
  transaction<Result>(work: Work<Result>, options?: { soon?: boolean }): Promise<Result>
  /** Listens to a channel on a connection of its own; `lost` is called when that breaks, once, and ends the listening. */
  listen(channel: string, on: { heard(payload: string): void; lost(): void }): Promise<Listening>
  /**
   * Closes the connections once `last` is over and what is under way. After a few seconds it cuts them: a server that hangs holds
   * nobody up.
   */
  close(last?: Promise<unknown>): Promise<void>
}

/** A channel that is listened to. */
export interface Listening {
  close(): Promise<void>
}

/** Declares a statement; its name is unique in the program. */
export function statement<Row = never>(name: string, text: string): Statement<Row> {
  return { name, text }
}

type Connection = Pick<ClientBase, 'query'>

/** How often a transaction is tried when others are in its way. */
const tries = 5

/**
 * Opens a pool; the first statement connects.
 *
 * Each connection is set to commit durably and read back: `store_not_durable` when the server may lose what it has
 * confirmed. Whatever else fails is `store_failed`, with PostgreSQL's own error as `cause`.
 */
export function openPostgres(options: ResolvedPostgresOptions): Postgres {
  const { place } = options
  const sockets = postgresSockets(options.config)
  const { config } = sockets
  // the pool waits for what `onConnect` returns, although its types do not say so
  const onConnect = (client: ClientBase): Promise<void> => prepareConnection(client, options)
  const pool = new Pool(Object.assign({ ...config }, { onConnect }))
  // An idle connection that breaks has left the pool by now, and whoever asks next gets a new one or an error of their own.
  pool.on('error', () => {})

  const run = async <Row>(
    client: Connection,
    { name, text }: Statement<Row>,
    values: readonly Value[],
  ): Promise<{ rows: Row[]; changed: number }> => {
    try {
      const { rows, rowCount } = await client.query<Row & object>({ name, text, values: values.map(toParameter) })
      return { rows, changed: rowCount ?? 0 }
    } catch (error) {
      throw failed(error, place)
    }
  }
  const command = async (client: Connection, text: string): Promise<void> => {
    try {
      await client.query(text)
    } catch (error) {
      throw failed(error, place)
    }
  }
  const queriesOn = (client: Connection): Commands => ({
    all: async (what, ...values) => (await run(client, what, values)).rows,
    first: async (what, ...values) => (await run(client, what, values)).rows[0],
    change: async (what, ...values) => (await run(client, what, values)).changed,
    command: (text) => command(client, text),
  })

  async function once<Result>(work: Work<Result>, soon: boolean): Promise<Result> {
    const client = await connect()
    let isBroken = false
    try {
      // Locks are taken by statements of their own, and what is read behind them must see what others committed before:
      // a database or role whose default isolation is another would undo that.
      const begin = 'BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE'
      await command(client, soon ? `${begin}; SET LOCAL synchronous_commit = off` : begin)
      const result = await work(queriesOn(client))
      await command(client, 'COMMIT')
      return result
    } catch (error) {
      isBroken = isConnectionTrouble(error) // then the server rolls back by itself
      if (!isBroken) {
        await client.query('ROLLBACK').catch(() => {
          isBroken = true
        })
      }
      throw error
    } finally {
      client.release(isBroken)
    }
  }

  const connect = async (): Promise<PoolClient> => {
    try {
      return await pool.connect()
    } catch (error) {
      throw failed(error, place)
    }
  }

  let closing: Promise<void> | undefined
  return {
    ...queriesOn(pool),
    async transaction(work, { soon = false } = {}) {
      for (let left = tries - 1; ; left--) {
        try {
          return await once(work, soon)
        } catch (error) {
          if (left === 0 || !isInTheWay(error)) throw error
        }
      }
    },
    async listen(channel, { heard, lost }) {
      if (closing) throw new LockstepError('store_failed', `the connections to PostgreSQL at ${place} are closed`)
      const own = postgresSockets(config)
      const client = new Client(own.config)
      let isListening = false
      client.on('notification', ({ payload = '' }) => heard(payload))
      client.on('error', () => {}) // 'end' follows
      client.on('end', () => {
        if (isListening) lost()
        isListening = false
      })
      try {
        await client.connect()
        await client.query(`LISTEN "${channel}"`)
        isListening = true
      } catch (error) {
        client.end().catch(() => {})
        throw failed(error, place)
      }
      return {
        async close() {
          isListening = false
          await own.closed(client.end())
        },
      }
    },
    close(last = Promise.resolve()) {
      closing ??= sockets.closed(last.then(() => pool.end()))
      return closing
    },
  }
}

/** Makes a new connection durable and reads it back. */
async function prepareConnection(client: ClientBase, { settings, place }: ResolvedPostgresOptions): Promise<void> {
  client.on('error', () => {}) // a connection that breaks between two statements fails the next one
  try {
    await client.query(
      `SELECT set_config(name, value, false) FROM unnest($1::text[], $2::text[]) AS setting (name, value)
       UNION ALL SELECT set_config('synchronous_commit',
         CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)`,
      [Object.keys(settings), Object.values(settings)],
    )
    const { rows } = await client.query<Settings>(
      `SELECT current_setting('synchronous_commit') AS synchronous_commit, current_setting('fsync') AS fsync,
         current_setting('full_page_writes') AS full_page_writes, current_setting('server_encoding') AS server_encoding`,
    )
    const { server_encoding: encoding, ...durability } = rows[0] ?? {}
    const weak = Object.entries(durability).find(([, value]) => value !== 'on' && value !== 'remote_apply')
    if (weak) {
      throw new LockstepError(
        'store_not_durable',
        `PostgreSQL at ${place} runs with ${weak[0]}=${weak[1]} and may lose what it has confirmed: set ${weak[0]}=on`,
      )
    }
    if (encoding !== 'UTF8') {
      throw new LockstepError(
        'store_failed',
        `PostgreSQL at ${place} has a database in ${encoding}: make one with ENCODING 'UTF8'`,
      )
    }
  } catch (error) {
    throw failed(error, place)
  }
}

interface Settings {
  synchronous_commit: string
  fsync: string
  full_page_writes: string
  server_encoding: string
}

/** Says what failed, and never what a statement was given. */
function failed(cause: unknown, place: string): LockstepError {
  if (cause instanceof LockstepError) return cause
  if (cause instanceof DatabaseError) {
    return new LockstepError('store_failed', `PostgreSQL at ${place} failed with ${cause.code}: ${cause.message}`, {
      cause,
    })
  }
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined
  const why = code ?? (cause instanceof Error ? cause.message : cause)
  return new LockstepError('store_failed', `PostgreSQL at ${place} cannot be reached: ${why}`, { cause })
}

function isConnectionTrouble(error: unknown): boolean {
  return error instanceof LockstepError && error.cause instanceof Error && !(error.cause instanceof DatabaseError)
}

/** Deadlocks: two transactions met in the other order; PostgreSQL has undone this one. */
function isInTheWay(error: unknown): boolean {
  return error instanceof LockstepError && error.cause instanceof DatabaseError && error.cause.code === '40P01'
}

function toParameter(value: Value): unknown {
  if (typeof value === 'string') return toText(value)
  return Array.isArray(value) ? value.map((entry) => (typeof entry === 'string' ? toText(entry) : entry)) : value
}
