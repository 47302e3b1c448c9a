import Database from 'better-sqlite3'
import type { UpstreamLogout } from 'lockstep/rp'

/** An OP session of the broker, and the upstream login it stems from. Times are epoch seconds. */
export interface Link {
  /** Uid of the OP session. */
  readonly uid: string
  /** The RP session's id and its names at the upstream OP. */
  readonly rpSession: string
  readonly iss: string
  readonly sub: string
  readonly sid: string | null
  /** `iat` of its first ID Token. */
  readonly firstIat: number
  readonly linkedAt: number
}

/** Which OP session stems from which upstream login, in a file, so that a restart forgets none. */
export interface Links {
  put(link: Link): void
  /** Those that an upstream logout may mean: of the RP sessions that it ended, and of the logins that it names. */
  of(logout: UpstreamLogout): readonly Link[]
  /** Whether an OP session was made of this RP session before. */
  has(rpSession: string): boolean
  forget(uid: string): void
  close(): void
}

/** Seconds after which no OP session can be alive any more. */
const LONGEST = 14 * 86_400

export function openLinks(file: string): Links {
  const db = new Database(file)
  db.pragma('journal_mode = WAL')
  db.pragma('synchronous = FULL')
  db.exec(`CREATE TABLE IF NOT EXISTS link (uid TEXT PRIMARY KEY, rpSession TEXT NOT NULL, iss TEXT NOT NULL, sub TEXT NOT NULL,
      sid TEXT, firstIat REAL NOT NULL, linkedAt INTEGER NOT NULL);
    CREATE INDEX IF NOT EXISTS link_sid ON link (iss, sid);
    CREATE INDEX IF NOT EXISTS link_sub ON link (iss, sub);
    CREATE INDEX IF NOT EXISTS link_rp ON link (rpSession);
    CREATE INDEX IF NOT EXISTS link_age ON link (linkedAt)`)
  const put = db.prepare(
    'INSERT OR REPLACE INTO link VALUES (@uid, @rpSession, @iss, @sub, @sid, @firstIat, @linkedAt)',
  )
  const bySid = db.prepare<[string, string, string | null, number], Link>(
    'SELECT * FROM link WHERE iss = ? AND sid = ? AND sub = coalesce(?, sub) AND firstIat <= ?',
  )
  const bySub = db.prepare<[string, string, number], Link>(
    'SELECT * FROM link WHERE iss = ? AND sub = ? AND firstIat <= ?',
  )
  const byRpSession = db.prepare<[string], Link>('SELECT * FROM link WHERE rpSession = ?')
  const forget = db.prepare<[string]>('DELETE FROM link WHERE uid = ?')
  const forgetOld = db.prepare<[number]>('DELETE FROM link WHERE linkedAt < ?')
  return {
    put(link) {
      forgetOld.run(link.linkedAt - LONGEST)
      put.run(link)
    },
    of({ iss, sid, sub, notAfter = Number.MAX_SAFE_INTEGER, rpSessions }) {
      const ended = rpSessions.flatMap((id) => byRpSession.all(id))
      const named = sid === undefined ? bySub.all(iss, sub ?? '', notAfter) : bySid.all(iss, sid, sub ?? null, notAfter)
      return [...ended, ...named.filter(({ rpSession }) => !rpSessions.includes(rpSession))]
    },
    has: (rpSession) => byRpSession.get(rpSession) !== undefined,
    forget: (uid) => void forget.run(uid),
    close: () => void db.close(),
  }
}
