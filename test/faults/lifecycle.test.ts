// Every step, every fault, on plain pods. A new step is covered by being a step.
import { afterAll, expect, it } from 'vitest';
import { startFaultMatrix } from '../support/fault-matrix.ts';
import { startLiar } from '../support/image/liar.ts';
import { operationsOf } from '../support/operations.ts';
import { plannedSteps, undoneBy } from '../support/plans.ts';

const matrix = await startFaultMatrix();
const registry = await startLiar();
afterAll(async () => {
  await matrix.destroy();
  await registry.close();
  console.log(`fault matrix: ${JSON.stringify(matrix.counts)} combinations of operation, step and fault`);
});

await matrix.cover(await operationsOf(matrix.node, registry), () => registry.closeIdleConnections());

// Last, so that it counts what the tests before it did.
it('the matrix has met each step of each plan, done and undone, and is as large as it should be', () => {
  const missing = Object.entries(plannedSteps()).flatMap(([operation, steps]) =>
    steps.flatMap(({ name, isUndone }) => {
      const undoing = isUndone ? [[operation], undoneBy[operation] ?? []] : [];
      const wanted = [
        [`${operation}/${name}/do`],
        ...undoing.map(operations => operations.map(each => `${each}/${name}/undo`)),
      ];
      return wanted.filter(ways => !ways.some(way => matrix.met.has(way)));
    }),
  );
  expect(missing).toEqual([]);
  expect(matrix.counts.ran).toBeGreaterThan(380);
});
