import { describe, expect, it } from 'vitest';
import { renderCniTemplate } from '../../../src/sandbox/cni-template.ts';

const template = `{
  {{- /* made from the node's pod CIDR */}}
  "name": "pods", "first": "{{.PodCIDR}}",
  "ranges": [{{range $i, $range := .PodCIDRRanges}}{{if $i}}, {{end}}[{"subnet": "{{$range}}"}]{{end}}],
  "routes": [{{range $i, $route := .Routes}}{{if $i}}, {{end}}{"dst": "{{$route}}"}{{end}}]
}`;

describe('a CNI template', () => {
  it('is filled in with one pod CIDR', () => {
    expect(JSON.parse(renderCniTemplate(template, '10.1.0.0/24'))).toEqual({
      name: 'pods',
      first: '10.1.0.0/24',
      ranges: [[{ subnet: '10.1.0.0/24' }]],
      routes: [{ dst: '0.0.0.0/0' }],
    });
  });

  it('is filled in with a CIDR of each family', () => {
    expect(JSON.parse(renderCniTemplate(template, '10.1.0.0/24,fd00::/64'))).toMatchObject({
      ranges: [[{ subnet: '10.1.0.0/24' }], [{ subnet: 'fd00::/64' }]],
      routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
    });
  });

  it('may use the item as the dot, and else', () => {
    expect(
      renderCniTemplate('{{range .Routes}}<{{.}}>{{end}}{{if .PodCIDR}}a{{else}}b{{end}}', 'fd00::/64'),
    ).toBe('<::/0>a');
  });

  it('is refused when it uses what is not understood, or a range has no end', () => {
    expect(() => renderCniTemplate('{{.Nothing}}', '10.0.0.0/8')).toThrow(/\.Nothing/);
    expect(() => renderCniTemplate('{{range .Routes}}', '10.0.0.0/8')).toThrow(/without its end/);
  });

  it.each(['10.0.0.0', '10.0.0.0/33', 'x/8', ''])('refuses %j as a pod CIDR', cidr => {
    expect(() => renderCniTemplate('', cidr)).toThrow(/is no CIDR/);
  });
});
