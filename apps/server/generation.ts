import type { RequestListener } from 'node:http'
import type { OpSecrets, Provider } from 'lockstep/op'

/** An OP with the keys it was built with. oidc-provider takes keys at its construction only, so other keys want another one. */
export interface Generation {
  readonly op: Provider
  readonly secrets: OpSecrets
  readonly listener: RequestListener
  /** Closes the OP when its requests are answered, after so many milliseconds at the latest. No new ones may come. */
  retire(grace: number): Promise<void>
}

/** Keeps count of the requests that an OP has under way. */
export function generationOf(op: Provider, secrets: OpSecrets, serve: RequestListener): Generation {
  let underWay = 0
  let idle = (): void => {}
  return {
    op,
    secrets,
    listener: (req, res) => {
      underWay++
      res.once('close', () => {
        underWay--
        if (underWay === 0) idle()
      })
      serve(req, res)
    },
    async retire(grace) {
      let timer: NodeJS.Timeout | undefined
      await new Promise<void>((resolve) => {
        idle = resolve
        if (underWay === 0) resolve()
        timer = setTimeout(resolve, grace)
      })
      clearTimeout(timer)
      await op.close()
    },
  }
}

/** Both have the same keys, in the same order: the first of an algorithm signs. */
export function sameKeys(a: OpSecrets, b: OpSecrets): boolean {
  const text = ({ jwks, cookieKeys }: OpSecrets): string =>
    JSON.stringify([jwks.keys.map(({ kid }) => kid), cookieKeys])
  return text(a) === text(b)
}
