import { getRpSession } from 'lockstep/rp/next'
import { headers } from 'next/headers'
import { redirect } from 'next/navigation'
import { rp } from '../../rp.js'

export default async function Me() {
  const current = await getRpSession(rp, headers())
  if (current.state !== 'alive') redirect(rp.loginPath('/me', 'app'))
  return <p>Hello {current.session.data.name}</p>
}
