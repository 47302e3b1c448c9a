/* As much of frameworks as the examples in docs/ use; neither is a dependency of this repository. */
declare module 'react' {
  export function useEffect(effect: () => () => void, dependencies: readonly unknown[]): void
  export function useState<T>(initial: T): [T, (next: T) => void]
}

declare module 'vue' {
  export function ref<T>(value: T): { value: T }
  export function onMounted(hook: () => void): void
  export function onUnmounted(hook: () => void): void
}
