// [plugins."io.cri-ts"]: what containerd has no word for.
import { honoured, section } from '../notes.ts';
import { duration, executable, path } from '../values.ts';

export const ownSection = section({
  conmon_path: honoured(executable().default('conmon'), 'conmon, which watches each container.'),
  pause_path: honoured(
    path().default(''),
    'The built-in pause program, a static executable. "" = catatonit, where packages put it.',
  ),
  runtime_timeout: honoured(
    duration({ allowZero: false }).default('2m'),
    'Bound of one command of an OCI runtime (create, start, delete).',
  ),
  cni_timeout: honoured(duration({ allowZero: false }).default('2m'), 'Bound of one run of one CNI plugin.'),
  step_timeout: honoured(
    duration({ allowZero: false }).default('2m'),
    'Bound of one step of bringing up a pod or container, such as its whole CNI chain.',
  ),
  undo_timeout: honoured(
    duration({ allowZero: false }).default('1m'),
    'Bound of undoing one step of an operation that failed.',
  ),
});
