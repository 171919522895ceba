# bash completion for sealaned; made by scripts/manual.mjs
_sealaned() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command='' words='' files='' word i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    case $command in
    '' | 'peer') [[ $word == -* ]] || command=${command:+$command }$word ;;
    esac
  done
  case $prev in
    --log-format) COMPREPLY=($(compgen -W 'text json' -- "$cur")); return ;;
    --log-level) COMPREPLY=($(compgen -W 'error warn info' -- "$cur")); return ;;
    --cipher) COMPREPLY=($(compgen -W 'chacha20poly1305 aes256gcm' -- "$cur")); return ;;
  esac
  case $command in
    '')
      words='init run down status peer --version --help' ;;
    'init')
      words='--state --endpoint --pool --dns --mtu --help' ;;
    'run')
      words='--state --userspace --interface --lane --lanes --listen --allow --deny --limit --peer-to-peer --no-nat --no-forwarding --user --json --log-format --log-level --help' ;;
    'down')
      words='--state --help' ;;
    'status')
      words='--state --json --help' ;;
    'peer')
      words='add list show set remove --help' ;;
    'peer add')
      words='--state --out --public-key --no-psk --allowed-ips --post-quantum --cipher --keepalive --help' ;;
    'peer list')
      words='--state --json --help' ;;
    'peer show')
      words='--state --json --help' ;;
    'peer set')
      words='--state --cipher --post-quantum --no-post-quantum --forget-timestamp --help' ;;
    'peer remove')
      words='--state --help' ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  [[ -z $files ]] || COMPREPLY+=($(compgen -f -- "$cur"))
}
complete -o filenames -F _sealaned sealaned
