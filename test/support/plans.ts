// The plans of the lifecycle operations as the daemon makes them, to be read and not run: which steps there are, which can
// be undone, and how long each may take.
import { containerPlans, type Stopping, stopPlan } from '../../src/container/lifecycle.ts';
import { imagePlans } from '../../src/image/lifecycle.ts';
import { sandboxPlans } from '../../src/sandbox/lifecycle.ts';
import { type Step, stepsOf } from '../../src/steps/step.ts';

/** What tells of a step, whatever it works on. */
export interface PlannedStep {
  name: string;
  isUndone: boolean;
  /** Milliseconds that `do` may take; undefined: the engine's default. */
  deadlineMs: number | undefined;
}

/** Steps act with nothing here. */
const nothing = <T>() => ({}) as T;

const planned = <S>({ name, undo, deadlineMs }: Step<S>, subject: () => S): PlannedStep => ({
  name,
  isUndone: undo !== undefined,
  deadlineMs: typeof deadlineMs === 'function' ? deadlineMs(subject()) : deadlineMs,
});

const sandbox = sandboxPlans(nothing());
const container = containerPlans(nothing());

/** The steps that each operation does, in the order of the text. */
export const plannedSteps = (graceMs = 0): Record<string, PlannedStep[]> => {
  const stopping: Stopping = { ...nothing<Stopping>(), graceMs };
  const steps = <S>(...plans: Parameters<typeof stepsOf<S>>[0][]) =>
    plans.flatMap(plan => stepsOf(plan)).map(step => planned(step, () => nothing<S>()));
  return {
    RunPodSandbox: steps(sandbox.foundation, sandbox.running),
    CreateContainer: steps(container.foundation),
    StartContainer: steps(container.running),
    StopContainer: stepsOf(stopPlan(nothing())).map(step => planned(step, () => stopping)),
    PullImage: steps(imagePlans(nothing()).pull),
  };
};

/** The operations that undo what one does. */
export const undoneBy: Record<string, readonly string[]> = {
  RunPodSandbox: ['StopPodSandbox', 'RemovePodSandbox'],
  CreateContainer: ['RemoveContainer'],
  StartContainer: ['ContainerEnd'],
  PullImage: ['RemoveImage'],
};
