/**
 * The script of the OP's pages after a logout, bundled to `dist/served/logout-page.js` and inlined there: it leaves a page
 * with frames when they have loaded, and keeps the list of apps on the signed-out page up to date.
 */
import { followLogout, type LogoutProgress, leaveInTime } from './logout-page.ts'

const next = document.querySelector<HTMLAnchorElement>('#next')
const open = document.querySelector<HTMLElement>('#open')

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

if (next) {
  // Frames that stand in the page are part of it: its load event waits for theirs.
  const loaded = new Promise<void>((resolve) => {
    if (document.readyState === 'complete') resolve()
    else window.addEventListener('load', () => resolve(), { once: true })
  })
  void leaveInTime(Number(next.dataset.wait), { loaded, pause, leave: () => location.replace(next.href) })
}
if (open) void followLogout(Number(open.dataset.again), { pause, ask, paint })

async function ask(): Promise<LogoutProgress | 'gone' | undefined> {
  try {
    const response = await fetch(location.href, { headers: { accept: 'application/json' } })
    if (response.ok) return (await response.json()) as LogoutProgress
    return response.status === 404 ? 'gone' : undefined
  } catch {
    return undefined // offline, or the OP is restarting
  }
}

function paint({ heading, again, apps }: LogoutProgress): void {
  setText(document.querySelector('h1'), heading)
  if (again === undefined) setText(open, '')
  for (const [index, state] of [...document.querySelectorAll('li .state')].entries()) {
    const { mark, says } = apps[index] ?? {}
    if (mark === undefined || says === undefined) continue
    state.className = `state ${mark}`
    state.querySelector('use')?.setAttribute('href', `#${mark}`)
    setText(state.querySelector('.says'), says)
  }
}

/** Live regions speak when their text is set, so it is set only when it is another. */
function setText(element: Element | null, text: string): void {
  if (element && element.textContent !== text) element.textContent = text
}
