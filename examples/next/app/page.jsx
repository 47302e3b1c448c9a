import { getRpSession } from 'lockstep/rp/next'
import { headers } from 'next/headers'
import { rp } from '../rp.js'

export default async function Home() {
  const current = await getRpSession(rp, headers())
  return <p>{current.state === 'alive' ? <a href="/auth/logout">Sign out</a> : <a href="/me">Sign in</a>}</p>
}
