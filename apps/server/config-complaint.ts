import type { z } from 'zod'

/** What to write where, for each key that can be missing or wrong. */
export const advice: Readonly<Record<string, string>> = {
  issuer: 'Write the URL at which browsers and apps reach this OP, such as "https://login.example.com".',
  listen: 'Write the address to listen on, such as {"host": "127.0.0.1", "port": 4000}.',
  'listen.host': 'Write an address of this machine, such as "127.0.0.1".',
  'listen.port': 'Write a whole number from 1 to 65535, without quotes.',
  store:
    'Write where logins are kept, such as {"sqlite": "op.db"}, or for several nodes {"postgres": "postgres://op@localhost/op"}.',
  'store.sqlite': 'Write the path of the SQLite file, such as "op.db".',
  tls: 'Write the PEM files of the certificate and its key, such as {"cert": "op.crt", "key": "op.pem"}, or leave it out.',
  'tls.cert': 'Write the path of the PEM file with the certificate and the chain to its issuer.',
  'tls.key': "Write the path of the PEM file with the certificate's private key.",
  signing_alg: 'Write "RS256", "PS256", "ES256" or "EdDSA", or leave it out.',
  secrets: 'Write where the key that encrypts the secrets is, such as {"key_file": "op.key"}, or leave it out.',
  'secrets.key_file': 'Write the path of a file that only this program may read.',
  'store.postgres': 'Write a connection string, such as "postgres://op@db.example.com/op?sslmode=verify-full".',
  'store.allowInsecure': 'Write true only where the network to the database is trusted itself, or leave it out.',
  clients: 'Write a list of clients, each with client_id, redirect_uris and, unless it is public, client_secret.',
  'clients.client_id': 'Give every client a client_id.',
  'clients.client_secret': 'Write the secret as text, or leave it out and set token_endpoint_auth_method to "none".',
  accounts: 'Write a list of accounts, each with username and password.',
  'accounts.username': 'Give every account a username.',
  'accounts.password': 'Give every account a password.',
  'accounts.claims': 'Write an object of claims, such as {"name": "Ada", "email": "ada@example.com"}.',
  egress: 'Write the networks this OP may call, such as {"allow": ["10.0.0.0/8"]}, or leave it out.',
  'egress.proxy': 'Write the URL of an HTTP proxy, such as "http://proxy.internal:3128", or leave it out.',
  'egress.proxyEnforces': 'Write true only for a proxy that keeps requests away from addresses inside by itself.',
  'egress.allow': 'Write a list of CIDRs and host names, such as ["10.0.0.0/8", "mail.internal"].',
}

/** Says in words which key is wrong, whom it belongs to, and what to do. */
export function complaintOf(issue: z.core.$ZodIssue, content: unknown): string {
  const path = issue.path.map((part) => (typeof part === 'symbol' ? String(part) : part))
  const owner = ownerOf(path, content)
  const key = spell(path)
  const plain = path.filter((part) => typeof part === 'string').join('.')
  const help = advice[plain] ?? 'Correct it.'
  if (issue.code === 'unrecognized_keys') {
    const names = issue.keys.map((name) => `"${spell([...path, name])}"`).join(', ')
    const known = Object.keys(advice).filter(
      (name) => name.startsWith(plain) && name.split('.').length === depth(plain),
    )
    return `${names}${owner} is not a known key. Remove it or correct its spelling; known are ${known
      .map((name) => name.slice(name.lastIndexOf('.') + 1))
      .join(', ')}.`
  }
  if (path.length === 0) return 'must hold one JSON object. Start it with { and end it with }.'
  const value = path.reduce<unknown>((at, part) => Object(at)[part], content)
  if (value === undefined) return `"${key}"${owner} is missing. ${help}`
  if (issue.code === 'invalid_type') {
    return `"${key}"${owner} must be ${article(issue.expected)}, not ${article(kindOf(value))}. ${help}`
  }
  if (issue.code === 'too_small' && issue.origin === 'string') return `"${key}"${owner} must not be empty. ${help}`
  return `"${key}"${owner} is out of range. ${help}`
}

/** Who a key belongs to, in words: ` of client "mail"`. */
function ownerOf(path: readonly (string | number)[], content: unknown): string {
  const [list, index] = path
  if (typeof index !== 'number' || typeof content !== 'object' || content === null) return ''
  const entry: unknown = Object(Object(content)[String(list)])[index]
  const name = Object(entry)[list === 'clients' ? 'client_id' : 'username']
  if (typeof name !== 'string' || name === '') return ''
  return list === 'clients' ? ` of client "${name}"` : list === 'accounts' ? ` of account "${name}"` : ''
}

function spell(path: readonly (string | number)[]): string {
  return path.map((part, i) => (typeof part === 'number' ? `[${part}]` : i === 0 ? part : `.${part}`)).join('')
}

function depth(plain: string): number {
  return plain === '' ? 1 : plain.split('.').length + 1
}

function kindOf(value: unknown): string {
  return value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value
}

function article(kind: string): string {
  const words: Readonly<Record<string, string>> = {
    string: 'text',
    array: 'a list',
    object: 'an object',
    record: 'an object',
    int: 'a whole number',
    number: 'a number',
    boolean: 'true or false',
  }
  return words[kind] ?? kind
}
