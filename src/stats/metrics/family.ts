// What a metric is: a name that the field knows, and how its values are read from what was gathered.

export interface MetricFamily<Subject> {
  readonly name: string;
  readonly help: string;
  readonly type: 'COUNTER' | 'GAUGE';
  /** Labels besides the base ones. */
  readonly labels?: readonly string[];
  /** Values now, one for each set of label values; a bare number where there are no further labels. */
  read(subject: Subject): number | undefined | readonly LabelledValue[];
}

export interface LabelledValue {
  labels: readonly string[];
  value: number;
}

/** Labels that every metric begins with, as cAdvisor names them. `id` is the cgroup, `name` the container's id. */
export const baseLabels = ['container', 'id', 'image', 'name', 'namespace', 'pod'] as const;

/** One value of a metric of one container or pod. */
export interface MetricValue {
  name: string;
  type: 'COUNTER' | 'GAUGE';
  labels: string[];
  /** Whole, because the CRI carries no fractions: seconds are rounded down. */
  value: number;
}

/** Reads every metric of a list; what the subject does not have is left out. */
export function readAll<Subject>(
  families: readonly MetricFamily<Subject>[],
  subject: Subject,
  base: readonly string[],
): MetricValue[] {
  return families.flatMap(family => {
    const read = family.read(subject);
    const values = typeof read === 'number' ? [{ labels: [], value: read }] : (read ?? []);
    return values.map(({ labels, value }) => ({
      name: family.name,
      type: family.type,
      labels: [...base, ...labels],
      value: Math.max(0, Math.floor(value)),
    }));
  });
}
