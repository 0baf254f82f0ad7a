// What stands in for criu where it is not installed, and whether a real one works here. The stand-in keeps and shows
// what the runtime was told; its "restored" container starts its program anew.
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';

/** Writes a runtime and a criu into `directory`; returns their paths. */
export async function writeStandIns(directory: string): Promise<{ runtime: string; criu: string }> {
  await mkdir(directory, { recursive: true });
  const [runtime, criu] = [join(directory, 'runc-without-criu'), join(directory, 'criu')];
  await writeFile(
    runtime,
    `#!/bin/bash
# runc, but for what needs criu.
echo "$(command -v criu | wc -l) $*" >> ${directory}/calls
for word; do [[ $word = checkpoint || $word = restore ]] && verb=$word; done
case $verb in
  checkpoint)
    [[ -e ${directory}/fail ]] && { echo 'criu failed: type NOTIFY' >&2; fail=1; }
    while (($#)); do
      case $1 in --image-path) images=$2 ;; --work-path) work=$2 ;; esac
      shift
    done
    echo '(00.1) Error (criu/files.c:1): cannot dump a frog' > $work/dump.log
    [[ $fail ]] && exit 1
    [[ -e ${directory}/hang ]] && sleep 4
    echo pages > $images/pages-1.img
    ;;
  restore)
    args=()
    while (($#)); do
      case $1 in
        restore) args+=(run) ;;
        --image-path) cat $2/pages-1.img > ${directory}/restored; shift ;;
        --work-path) shift ;;
        *) args+=("$1") ;;
      esac
      shift
    done
    exec runc "\${args[@]}"
    ;;
  *) exec runc "$@" ;;
esac
`,
  );
  await writeFile(criu, '#!/bin/sh\necho Version: 4.1\n');
  for (const file of [runtime, criu]) await chmod(file, 0o755);
  return { runtime, criu };
}

/** Each call of the stand-in so far: whether it could find criu, and its arguments. */
export async function standInCalls(directory: string): Promise<string[]> {
  return (await readFile(join(directory, 'calls'), 'utf8')).trim().split('\n');
}

/** A criu that can do its work on this kernel: the one that CRI_TS_TEST_CRIU names, or that is on PATH. */
export async function workingCriu(): Promise<string | undefined> {
  const named = process.env.CRI_TS_TEST_CRIU ?? (await execa('which', ['criu'], { reject: false })).stdout;
  if (!named) return undefined;
  const { exitCode } = await execa(named, ['check'], { reject: false });
  return exitCode === 0 ? named : undefined;
}
