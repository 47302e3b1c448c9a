import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { configFromArguments } from '../../apps/server/arguments.ts'
import { loadConfig, parseConfig, type ServerConfig } from '../../apps/server/config.ts'
import { ConfigError } from '../../apps/server/config-error.ts'
import { isLoopback, isNetworkOrHost, requireLoopback } from '../../apps/server/loopback.ts'

const valid = {
  issuer: 'https://op.example.com',
  listen: { host: '127.0.0.1', port: 4000 },
  store: { sqlite: 'op.db' },
  clients: [
    { client_id: 'notes', client_secret: 'secret-of-notes', redirect_uris: ['https://notes.example.com/callback'] },
    { client_id: 'mail', client_secret: 'secret-of-mail', redirect_uris: ['https://mail.example.com/callback'] },
  ],
  accounts: [
    { username: 'ada', password: 'analytical', claims: { name: 'Ada' } },
    { username: 'grace', password: 'nanosecond', claims: { sub: 'g-1' } },
  ],
  egress: { allow: ['10.0.0.0/8'] },
}

/** The valid file with one thing changed, by path; `undefined` removes it. */
function changed(path: string, value: unknown): Record<string, unknown> {
  const copy = structuredClone(valid) as Record<string, unknown>
  const keys = path.split('.')
  const last = keys.pop() ?? ''
  let at = copy
  for (const key of keys) at = at[key] as Record<string, unknown>
  if (value === undefined) delete at[last]
  else at[last] = value
  return copy
}

function complaintAbout(content: unknown): string {
  try {
    parseConfig('op.json', content)
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError)
    return (error as Error).message
  }
  throw new Error('the file was accepted')
}

describe('a configuration file', () => {
  it('is taken as it is when nothing is wrong', () => {
    expect(parseConfig('op.json', valid)).toMatchObject({ issuer: valid.issuer, listen: valid.listen, demo: false })
  })

  it('may leave out listen.host, claims and egress', () => {
    const { egress: _egress, ...rest } = valid
    const config = parseConfig('op.json', {
      ...rest,
      listen: { port: 4000 },
      accounts: [{ username: 'a', password: 'b' }],
    })
    expect(config.listen.host).toBe('127.0.0.1')
    expect(config.egress.allow).toEqual([])
    expect(config.accounts[0]?.claims).toEqual({})
  })

  const wrong: [what: string, content: unknown, names: string[]][] = [
    ['an unknown key', changed('isuer', 'x'), ['"isuer"', 'not a known key', 'issuer']],
    ['an unknown key inside a key', changed('listen.prot', 1), ['"listen.prot"', 'not a known key']],
    ['an unknown key of an account', changed('accounts.1.pasword', 'x'), ['"accounts[1].pasword"', 'account "grace"']],
    ['no issuer', changed('issuer', undefined), ['"issuer" is missing']],
    ['no listen', changed('listen', undefined), ['"listen" is missing']],
    ['no port', changed('listen.port', undefined), ['"listen.port" is missing']],
    ['no store', changed('store', undefined), ['"store" is missing']],
    ['no place in the store', changed('store', {}), ['"store.sqlite" or "store.postgres" is missing']],
    ['two stores', changed('store.postgres', 'postgres://op@localhost/op'), ['both "sqlite" and "postgres"']],
    ['an unknown store', changed('store', { mysql: 'x' }), ['"store.mysql"', 'known are sqlite, postgres']],
    ['a connection string that is none', changed('store', { postgres: 1 }), ['"store.postgres" must be text']],
    ['allowInsecure for a file', changed('store.allowInsecure', true), ['"store.allowInsecure" belongs to']],
    [
      'allowInsecure as text',
      changed('store', { postgres: 'x', allowInsecure: 'yes' }),
      ['"store.allowInsecure" must be'],
    ],
    ['no clients', changed('clients', undefined), ['"clients" is missing']],
    ['no accounts', changed('accounts', undefined), ['"accounts" is missing']],
    ['a client without client_id', changed('clients.1.client_id', undefined), ['"clients[1].client_id" is missing']],
    [
      'an account without password',
      changed('accounts.1.password', undefined),
      ['"accounts[1].password"', 'account "grace"', 'missing'],
    ],
    ['a number as issuer', changed('issuer', 4000), ['"issuer" must be text, not a number']],
    ['a port in quotes', changed('listen.port', '4000'), ['"listen.port" must be a number, not text']],
    ['a port out of range', changed('listen.port', 70_000), ['"listen.port" is out of range']],
    ['an object of clients', changed('clients', {}), ['"clients" must be a list, not an object']],
    [
      'a number as secret',
      changed('clients.1.client_secret', 12),
      ['"clients[1].client_secret"', 'client "mail"', 'must be text'],
    ],
    [
      'an empty password',
      changed('accounts.0.password', ''),
      ['"accounts[0].password"', 'account "ada"', 'must not be empty'],
    ],
    [
      'a list of claims',
      changed('accounts.0.claims', []),
      ['"accounts[0].claims"', 'account "ada"', 'must be an object'],
    ],
    [
      'text instead of a list of networks',
      changed('egress.allow', '10.0.0.0/8'),
      ['"egress.allow" must be a list, not text'],
    ],
    ['a network that is none', changed('egress.allow', ['10.0.0.0/99']), ['"egress.allow"', '10.0.0.0/99']],
    ['an issuer that is no URL', changed('issuer', 'op.example.com'), ['"issuer" must be an https URL']],
    ['an issuer with a query', changed('issuer', 'https://op.example.com/?a=b'), ['"issuer"', 'query']],
    ['one client twice', changed('clients.1.client_id', 'notes'), ['"clients"', '"notes" twice']],
    ['one username twice', changed('accounts.1.username', 'ada'), ['"accounts"', '"ada" twice']],
    ['one subject twice', changed('accounts.1.claims', { sub: 'ada' }), ['subject "ada"']],
    ['a subject that is no text', changed('accounts.0.claims', { sub: 7 }), ['"claims.sub"', 'account "ada"']],
    ['a list instead of an object', [], ['one JSON object']],
    ['nothing', null, ['one JSON object']],
  ]
  it.each(wrong)('is refused for %s, in one line that names the key', (_what, content, names) => {
    const complaint = complaintAbout(content)
    for (const name of names) expect(complaint).toContain(name)
    expect(complaint).not.toContain('\n')
    expect(complaint).toMatch(/^op\.json: .*\.( \(And \d+ more\.\))?$/)
  })

  it('names a misspelt key before the one that is missing because of it', () => {
    const { issuer, ...rest } = valid
    expect(complaintAbout({ isuer: issuer, ...rest })).toMatch(
      /^op\.json: "isuer" is not a known key.* \(And 1 more\.\)$/,
    )
  })

  it('never repeats a secret in a complaint', () => {
    const complaint = complaintAbout(changed('clients.0.client_secret', ['hunter2']))
    expect(complaint).not.toContain('hunter2')
  })

  it('is complained about without control characters [T24]', () => {
    expect(complaintAbout(changed('x\u001b[31m\n', 1))).not.toMatch(/\p{Cc}/u)
  })
})

describe('a configuration file on disk', () => {
  let folder = ''
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'lockstep-config-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  const write = (content: string): string => {
    const file = join(folder, 'op.json')
    writeFileSync(file, content)
    return file
  }

  it('keeps its SQLite file beside it, or in the data folder', () => {
    const file = write(JSON.stringify(valid))
    expect(loadConfig(file).store).toEqual({ sqlite: join(folder, 'op.db') })
    expect(loadConfig(file, '/elsewhere').store).toEqual({ sqlite: '/elsewhere/op.db' })
  })

  it('is refused by its path when it does not exist', () => {
    expect(() => loadConfig(join(folder, 'none.json'))).toThrow(/none\.json does not exist\. Check the path/)
  })

  it('is refused with the line of a syntax error, and without what stands there', () => {
    const file = write('{\n  "issuer": "https://op.example.com",\n  "password": "hunter2" "x"\n}')
    expect(() => loadConfig(file)).toThrow(/op\.json is not valid JSON: look at line 3 column \d+\./)
    expect(() => loadConfig(write('{"password": hunter2}'))).toThrow(/^op\.json is not valid JSON\. Check quotes/)
  })

  it('is chosen by --config, and its port by --port', () => {
    const file = write(JSON.stringify(valid))
    expect(configFromArguments(['--config', file, '--port', '5001'])).toMatchObject({ listen: { port: 5001 } })
  })
})

describe('the command line', () => {
  it('derives the demo from one port', () => {
    const config = configFromArguments(['--demo', '--port', '5000', '--data', '/tmp/x'])
    expect(config).toMatchObject({
      issuer: 'http://localhost:5000',
      store: { sqlite: '/tmp/x/op.db' },
      egress: { allow: ['127.0.0.0/8'] },
      clients: [
        { client_id: 'notes', backchannel_logout_uri: 'http://127.0.0.1:5001/auth/backchannel-logout' },
        { client_id: 'mail', client_uri: 'http://mail.localhost:5002' },
      ],
    })
  })

  it.each([
    [[], /--config FILE or --demo/],
    [['--demo', '--config', 'x.json'], /--config FILE or --demo/],
    [['--demo', '--port', '0'], /--port must be/],
    [['--demo', '--port', '65535'], /at most 65533/],
    [['--demo', '--prot', '1'], /--prot/],
  ])('refuses %j with one line', (args, line) => {
    expect(() => configFromArguments(args)).toThrow(ConfigError)
    expect(() => configFromArguments(args)).toThrow(line)
  })
})

describe('what is safe on this machine only', () => {
  const demo = configFromArguments(['--demo'])
  const local = { ...parseConfig('op.json', valid), issuer: 'http://localhost:4000' }

  it('starts where issuer and bind address are loopback [T22]', () => {
    if (demo === 'help') throw new Error('no demo')
    expect(() => requireLoopback(demo)).not.toThrow()
    expect(() => requireLoopback({ ...local, egress: { allow: ['127.0.0.0/8', 'localhost'] } })).not.toThrow()
  })

  const elsewhere = { ...local, issuer: 'https://op.example.com' }
  const unsafe: [what: string, config: ServerConfig, names: string][] = [
    [
      'the demo on another address',
      { ...local, demo: true, listen: { host: '0.0.0.0', port: 1 } },
      '"listen.host" is "0.0.0.0"',
    ],
    ['the demo under another issuer', { ...elsewhere, demo: true }, 'the demo and its accounts'],
    ['http on another address', { ...local, listen: { host: '::', port: 1 } }, '"issuer" may use http only'],
    ['http under another issuer', { ...local, issuer: 'http://op.example.com' }, '"issuer" may use http only'],
  ]
  const reachable = [
    '127.0.0.0/8',
    '127.0.0.1',
    '127.1.2.0/24',
    'localhost',
    'a.localhost',
    '::1',
    '::1/128',
    '0.0.0.0/0',
    '::/0',
    '0.0.0.0',
    '::ffff:127.0.0.0/104',
  ]
  for (const entry of reachable)
    unsafe.push([`egress to ${entry}`, { ...elsewhere, egress: { allow: [entry] } }, `"${entry}"`])
  it.each(unsafe)('refuses %s [T22]', (_what, config, names) => {
    expect(() => requireLoopback(config)).toThrow(ConfigError)
    expect(() => requireLoopback(config)).toThrow(names)
  })

  it('lets an https OP call private networks that its operator allows', () => {
    expect(() =>
      requireLoopback({ ...parseConfig('op.json', valid), egress: { allow: ['10.0.0.0/8', 'fd00::/8'] } }),
    ).not.toThrow()
  })

  it('knows loopback names and addresses', () => {
    for (const host of ['localhost', 'a.localhost', '127.0.0.1', '127.9.9.9', '::1', '[::1]', '::ffff:127.0.0.1']) {
      expect(isLoopback(host), host).toBe(true)
    }
    for (const host of ['example.com', 'localhost.example.com', '10.0.0.1', '0.0.0.0', '::', 'notlocalhost']) {
      expect(isLoopback(host), host).toBe(false)
    }
  })

  it('knows networks and hosts from nonsense', () => {
    for (const entry of ['10.0.0.0/8', 'fd00::/8', '10.1.2.3', 'mail.internal', 'rp'])
      expect(isNetworkOrHost(entry), entry).toBe(true)
    for (const entry of ['10.0.0.0/33', 'https://x', 'a b', '1.2.3', '', '*.example.com'])
      expect(isNetworkOrHost(entry), entry).toBe(false)
  })
})
