import type { Client } from 'oidc-provider'

/** The client's name for people; whoever registered it wrote it, so it is kept short and printable (T24). */
export function nameOf(client: Client): string {
  const name = (client.clientName ?? '').replaceAll(/\p{C}+/gu, ' ').trim()
  return name === '' ? client.clientId : name.slice(0, 200)
}
