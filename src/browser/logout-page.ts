/** How a logout stands, as the OP's signed-out page asks for it (the JSON at its own URL). */
export interface LogoutProgress {
  readonly heading: string
  /** Seconds until it is worth asking again; absent when nothing changes any more. */
  readonly again?: number
  /** In the order of the page's list. */
  readonly apps: readonly { readonly mark: string; readonly says: string }[]
}

/** What the signed-out page is given to keep itself up to date. */
export interface LogoutPageWorld {
  pause(ms: number): Promise<void>
  /** `gone` when the OP does not show it any more, `undefined` when it cannot be asked right now. */
  ask(): Promise<LogoutProgress | 'gone' | undefined>
  paint(progress: LogoutProgress): void
}

/** Asks and paints until nothing changes any more. */
export async function followLogout(again: number, { pause, ask, paint }: LogoutPageWorld): Promise<void> {
  for (let wait: number | undefined = again; wait !== undefined; ) {
    await pause(wait * 1000)
    const progress = await ask()
    if (progress === 'gone') return
    if (!progress) continue
    paint(progress)
    wait = progress.again
  }
}

/** A page with frames. */
export interface FramesPage {
  /** Resolves when all its frames have loaded, which says nothing about what they did. */
  readonly loaded: Promise<void>
  pause(ms: number): Promise<void>
  leave(): void
}

/** Leaves a page with frames when they have loaded, or after so many seconds. */
export async function leaveInTime(wait: number, { loaded, pause, leave }: FramesPage): Promise<void> {
  await Promise.race([loaded, pause(wait * 1000)])
  leave()
}
