import type { Logout } from './contract.ts'

/**
 * The id of a logout's delivery by its place. Those of one logout lie side by side in the index by id: a thousand random ones would touch a
 * thousand pages of a large file, and all of these must be on the disk before the End-User gets an answer.
 */
export function deliveryIdOf({ id }: Pick<Logout, 'id'>, place: number): string {
  return `${id}.${place}`
}
