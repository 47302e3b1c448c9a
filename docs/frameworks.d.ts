/* As much of frameworks as the examples in docs/ use; none is a dependency of this repository. */
declare module 'react' {
  export function useEffect(effect: () => () => void, dependencies: readonly unknown[]): void
  export function useState<T>(initial: T): [T, (next: T) => void]
}

declare module 'vue' {
  export function ref<T>(value: T): { value: T }
  export function onMounted(hook: () => void): void
  export function onUnmounted(hook: () => void): void
}

declare module '@sveltejs/kit' {
  interface RequestEvent {
    readonly request: Request
    readonly url: URL
  }
  export type Handle = (input: {
    event: RequestEvent
    resolve(event: RequestEvent): Response | Promise<Response>
  }) => Response | Promise<Response>
}

declare module 'react-router' {
  export interface LoaderFunctionArgs {
    readonly request: Request
  }
  export interface ActionFunctionArgs {
    readonly request: Request
  }
}

declare module 'h3' {
  interface H3Event {
    readonly path: string
  }
  export function defineEventHandler<Answer>(handler: (event: H3Event) => Answer): (event: H3Event) => Answer
  export function toWebRequest(event: H3Event): Request
}

declare module 'astro' {
  export type MiddlewareHandler = (
    context: { readonly request: Request; readonly url: URL },
    next: () => Promise<Response>,
  ) => Promise<Response> | Response
}

declare module '@tanstack/react-router' {
  type Answer = (context: { request: Request }) => Response | Promise<Response>
  export function createFileRoute(
    path: string,
  ): (options: { server: { handlers: { GET: Answer; POST: Answer } } }) => unknown
}
