// How the default AppArmor profile gets into the kernel, with a parser and lists of a host made for the test.
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  type ApparmorHost,
  defaultProfileName,
  loadDefaultProfile,
  NoApparmorParser,
  profileText,
} from '../../../src/oci/apparmor-default.ts';

let directory: string;
let host: ApparmorHost;
const never = new AbortController().signal;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'cri-ts-apparmor-'));
  host = {
    parser: join(directory, 'apparmor_parser'),
    loaded: join(directory, 'profiles'),
    configDir: join(directory, 'apparmor.d'),
  };
  mkdirSync(host.configDir);
  writeFileSync(host.loaded, 'docker-default (enforce)\n');
});
afterEach(() => rmSync(directory, { recursive: true }));

function parser(script: string): void {
  writeFileSync(host.parser, `#!/bin/sh\n${script}\n`);
  chmodSync(host.parser, 0o755);
}

test('it is given to the parser, which puts it into the kernel', async () => {
  parser(`echo "$@" > ${directory}/arguments; cat > ${directory}/profile`);
  expect(await loadDefaultProfile(host, never)).toBe(defaultProfileName);
  expect(readFileSync(join(directory, 'arguments'), 'utf8')).toContain('--replace');
  const text = readFileSync(join(directory, 'profile'), 'utf8');
  expect(text).toContain(`profile ${defaultProfileName} flags=(attach_disconnected,mediate_deleted) {`);
  expect(text).toContain('deny mount,');
});

test('one that is loaded is left alone', async () => {
  parser(`touch ${directory}/called`);
  writeFileSync(host.loaded, `docker-default (enforce)\n${defaultProfileName} (enforce)\n`);
  expect(await loadDefaultProfile(host, never)).toBe(defaultProfileName);
  expect(existsSync(join(directory, 'called'))).toBe(false);
});

test('without a parser it says what to install', async () => {
  const refused = loadDefaultProfile(host, never);
  await expect(refused).rejects.toBeInstanceOf(NoApparmorParser);
  await expect(refused).rejects.toThrow('apt-get install apparmor');
});

test('what the parser complains of is told', async () => {
  parser('echo "syntax error, unexpected TOK_ID" >&2; exit 1');
  await expect(loadDefaultProfile(host, never)).rejects.toThrow('unexpected TOK_ID');
});

test('it includes what the host’s AppArmor has, and stands by itself where that has nothing', async () => {
  const bare = await profileText(host.configDir);
  expect(bare).not.toContain('include');
  expect(bare).toContain('@{PROC}=/proc/');
  for (const file of ['tunables/global', 'abstractions/base', 'abi/3.0']) {
    mkdirSync(join(host.configDir, file, '..'), { recursive: true });
    writeFileSync(join(host.configDir, file), '');
  }
  const whole = await profileText(host.configDir);
  expect(whole).toContain('abi <abi/3.0>,\n#include <tunables/global>');
  expect(whole).toContain('#include <abstractions/base>');
});
