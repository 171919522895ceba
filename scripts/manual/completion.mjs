/** Completions of a described command tree for bash, zsh and fish. Names of tunnels and files are looked up when asked. */
import { leaves } from './man.mjs';

const TUNNELS = 'ls /var/run/wireguard/ 2>/dev/null | sed -n "s/\\\\.sock$//p"';
const CONFIGS = 'ls /etc/sealane /etc/wireguard 2>/dev/null | sed -n "s/\\\\.conf$//p"';

export function bashCompletion(tree) {
  const fn = `_${tree.name}`;
  const cases = nodes(tree).map((command) => {
    const key = command.path.slice(1).join(' ');
    return `    ${quote(key)})\n      words=${quote(wordsOf(command).join(' '))}${dynamic(command)} ;;`;
  });
  const choices = allOptions(tree)
    .filter((option) => option.choices.length > 0)
    .map(
      (option) =>
        `    ${option.long}) COMPREPLY=($(compgen -W ${quote(option.choices.join(' '))} -- "$cur")); return ;;`,
    );
  const groups = nodes(tree)
    .filter(({ commands }) => commands.length > 0)
    .map(({ path }) => path.slice(1).join(' '));
  return `# bash completion for ${tree.name}; made by scripts/manual.mjs
${fn}() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} command='' words='' files='' word i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    case $command in
    ${groups.map(quote).join(' | ')}) [[ $word == -* ]] || command=\${command:+$command }$word ;;
    esac
  done
  case $prev in
${[...new Set(choices)].join('\n')}
  esac
  case $command in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  [[ -z $files ]] || COMPREPLY+=($(compgen -f -- "$cur"))
}
complete -o filenames -F ${fn} ${tree.name}
`;
}

export function zshCompletion(tree) {
  const describeList = (items) =>
    items.map(([name, text]) => quote(`${name.replaceAll(':', '\\:')}:${text}`)).join(' ');
  const cases = nodes(tree).map((command) => {
    const items = [
      ...command.commands.map(({ name, description }) => [name, description]),
      ...command.options.map(({ long, description }) => [long, description]),
    ];
    const names = takes(command, 'name') ? ` names=(\${(f)"$(${TUNNELS.replaceAll('\\\\', '\\')})"})` : '';
    const files = takes(command, 'config') ? ` names=(\${(f)"$(${CONFIGS.replaceAll('\\\\', '\\')})"}); files=1` : '';
    return `    ${quote(command.path.slice(1).join(' '))}) items=(${describeList(items)});${names}${files} ;;`;
  });
  const groups = nodes(tree)
    .filter(({ commands }) => commands.length > 0)
    .map(({ path }) => quote(path.slice(1).join(' ')));
  return `#compdef ${tree.name}
# made by scripts/manual.mjs
_${tree.name}() {
  local command='' files='' word
  local -a items names
  for word in \${words[2,CURRENT-1]}; do
    case $command in
    ${groups.join(' | ')}) [[ $word == -* ]] || command=\${command:+$command }$word ;;
    esac
  done
  case $command in
${cases.join('\n')}
  esac
  _describe -t commands ${quote(tree.name)} items
  (( \${#names} )) && compadd -a names
  [[ -z $files ]] || _files
}
_${tree.name} "$@"
`;
}

export function fishCompletion(tree) {
  const lines = [`# fish completion for ${tree.name}; made by scripts/manual.mjs`, `complete -c ${tree.name} -f`];
  const first = tree.commands.map(({ name }) => name).join(' ');
  for (const command of nodes(tree)) {
    const path = command.path.slice(1);
    const seen = path.map((name) => `__fish_seen_subcommand_from ${name}`).join('; and ');
    const inner = command.commands.map(({ name }) => name).join(' ');
    const here = path.length === 0 ? `not __fish_seen_subcommand_from ${first}` : seen;
    for (const { name, description } of command.commands) {
      const condition = path.length === 0 ? here : `${seen}; and not __fish_seen_subcommand_from ${inner}`;
      lines.push(`complete -c ${tree.name} -n ${quote(condition)} -a ${name} -d ${quote(description)}`);
    }
    for (const { long, short, description, takesValue, choices } of command.options) {
      const parts = [`-n ${quote(here)}`, ...(short ? [`-s ${short.slice(1)}`] : []), `-l ${long.slice(2)}`];
      if (takesValue) parts.push(choices.length > 0 ? `-x -a ${quote(choices.join(' '))}` : '-r');
      lines.push(`complete -c ${tree.name} ${parts.join(' ')} -d ${quote(description)}`);
    }
    if (takes(command, 'name'))
      lines.push(`complete -c ${tree.name} -n ${quote(here)} -a ${quote(`(${TUNNELS.replaceAll('\\\\', '\\')})`)}`);
    if (takes(command, 'config')) {
      lines.push(`complete -c ${tree.name} -n ${quote(here)} -F -a ${quote(`(${CONFIGS.replaceAll('\\\\', '\\')})`)}`);
    }
  }
  return `${lines.join('\n')}\n`;
}

function nodes(tree) {
  return [tree, ...tree.commands.flatMap(nodes)];
}

function allOptions(tree) {
  return leaves(tree).flatMap(({ options }) => options);
}

function wordsOf(command) {
  return [...command.commands.map(({ name }) => name), ...command.options.map(({ long }) => long), '--help'];
}

function takes(command, name) {
  // A server's peers are known to the server alone.
  return command.path[0] === 'sealane' && command.arguments.some((argument) => argument.name === name);
}

function dynamic(command) {
  const names = takes(command, 'name') ? `\n      words+=" $(${TUNNELS.replaceAll('\\\\', '\\')})"` : '';
  const files = takes(command, 'config')
    ? `\n      words+=" $(${CONFIGS.replaceAll('\\\\', '\\')})"\n      files=1`
    : '';
  return names + files;
}

function quote(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
