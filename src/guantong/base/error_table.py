"""Every error code once: kind, HTTP status, exit code, message and next step in English and Chinese.

Rows are grouped by the room that raises them and sorted within it. ``{name}`` is filled from the facts of the error. Exit codes:
1 refused, 2 a person must change something, 3 try again later, 4 bad input, 5 damaged storage, 6 verified but signer unknown.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ERRORS", "ErrorRow"]


class ErrorRow(NamedTuple):
    """One row; ``kind`` names the branch of the tree in ``errors.py``."""

    kind: str
    status: int
    exit_code: int
    message_en: str
    hint_en: str
    message_zh: str
    hint_zh: str


# fmt: off
ERRORS: dict[str, ErrorRow] = {
    # base
    "base.algorithm-missing": ErrorRow(
        "config", 501, 2,
        "The cryptography library of this machine has no {name}.", "Use the wheels of cryptography from PyPI and a Python with its own OpenSSL 1.1.1 or newer, or switch the setting off.",
        "本机的密码库不支持 {name}。", "请使用 PyPI 的 cryptography 安装包和自带 OpenSSL 1.1.1 以上的 Python，或关闭该设置。"),
    "base.certificate-refused": ErrorRow(
        "refused", 403, 1,
        "The company certificate is not to be relied on: {reason}.", "Check certificate, key and roots; the statement must be signed while the certificate is valid.",
        "该单位证书不可采信：{reason}。", "请检查证书、私钥和根证书；声明须在证书有效期内签署。"),
    "base.extra-missing": ErrorRow(
        "config", 501, 2,
        "{feature} needs the extra “{extra}”, which is not installed.", 'Run: pip install "guantong[{extra}]"',
        "{feature} 需要扩展 {extra}，但尚未安装。", '请运行：pip install "guantong[{extra}]"'),
    "base.identifier-wrong": ErrorRow(
        "skip", 400, 4,
        "“{text}” is no {kind}: its form or its check characters are wrong.", "Copy it again from the licence, the register or the partner's own document.",
        "“{text}” 不是有效的 {kind}：格式或校验位不符。", "请从营业执照、登记系统或对方文件中重新抄录。"),
    "base.key-change-refused": ErrorRow(
        "refused", 403, 1,
        "This change of a key is not to be believed: {reason}.", "Ask the key's owner over another channel; until then rely on the old key's past only.",
        "该密钥变更不可采信：{reason}。", "请通过其他渠道向密钥所有者核实；在此之前只采信旧密钥过去的签名。"),
    "base.key-unreadable": ErrorRow(
        "config", 500, 2,
        "The key {name} can't be read.", "Restore the file from a back-up; if there is none, declare the loss with `guantong keys lost --out FILE`.",
        "无法读取密钥 {name}。", "请从备份恢复该文件；若没有备份，请用 `guantong keys lost --out 文件` 声明密钥丢失。"),
    "base.no-fork": ErrorRow(
        "refused", 409, 1,
        "This does not prove that the log was forked: {reason}.", "Ask whoever claims it for both signed checkpoints and the consistency proof.",
        "这不能证明日志被分叉：{reason}。", "请向主张者索取两份签名检查点和一致性证明。"),
    "base.not-canonical": ErrorRow(
        "skip", 400, 4,
        "This value has no canonical form: {reason}.", "Send large integers and money as text, and no NaN or infinity.",
        "该值没有规范形式：{reason}。", "大整数和金额请用文本表示，不要使用 NaN 或无穷大。"),
    "base.note-malformed": ErrorRow(
        "skip", 400, 4,
        "This is not a signed note: {reason}.", "Ask its maker for a note in the C2SP signed-note format.",
        "这不是签名便笺：{reason}。", "请向出具方索取 C2SP signed-note 格式的便笺。"),
    "base.passphrase-short": ErrorRow(
        "skip", 400, 4,
        "The passphrase is shorter than {least} characters.", "Choose a longer one, for example five words drawn by lot.",
        "口令短于 {least} 个字符。", "请选用更长的口令，例如随机抽取的五个词。"),
    "base.passphrase-wrong": ErrorRow(
        "refused", 403, 1,
        "The passphrase does not open this file, or its beginning was changed.", "Try the passphrase again; if it is right, use another copy of the file.",
        "口令无法打开该文件，或文件开头已被改动。", "请重新输入口令；若口令无误，请使用文件的其他副本。"),
    "base.signature-bad": ErrorRow(
        "refused", 403, 1,
        "The signature of {signer} does not match.", "Ask the sender to send the original again; do not use these bytes.",
        "{signer} 的签名不符。", "请让发送方重新发送原件，不要使用这些数据。"),
    "base.time-unreadable": ErrorRow(
        "skip", 400, 4,
        "“{text}” is not a time.", "Write times as RFC 3339, for example 2026-11-24T08:00:00Z.",
        "“{text}” 不是时间。", "请按 RFC 3339 书写时间，例如 2026-11-24T08:00:00Z。"),
    "base.timestamp-malformed": ErrorRow(
        "skip", 400, 4,
        "This is not an RFC 3161 time stamp: {reason}.", "Ask its maker for the authority's whole answer (.tsr).",
        "这不是 RFC 3161 时间戳：{reason}。", "请向出具方索取时间戳机构的完整应答（.tsr）。"),
    "base.timestamp-refused": ErrorRow(
        "refused", 403, 1,
        "The time stamp does not hold: {reason}.", "Do not rely on the time it states; compare data, request and the authority's certificate.",
        "时间戳不成立：{reason}。", "请勿采信其所载时间；请核对数据、请求和时间戳机构的证书。"),
    "base.unit-mismatch": ErrorRow(
        "skip", 400, 4,
        "Values in “{source}” can't be converted to “{target}”: they measure different things.", "Correct the unit in the source's settings or in the mapping.",
        "“{source}” 的数值不能换算为“{target}”：二者计量的不是同一种量。", "请在数据源设置或映射中更正单位。"),
    "base.unit-unknown": ErrorRow(
        "skip", 400, 4,
        "The unit “{unit}” is not known.", "Write it as a UCUM code, for example mm, Cel, kW.h or mm/min.",
        "不认识单位“{unit}”。", "请写成 UCUM 代码，例如 mm、Cel、kW.h 或 mm/min。"),
    "base.vault-changed": ErrorRow(
        "refused", 422, 1,
        "The sealed file was changed or cut off.", "Use another copy of the file; nothing of it was kept.",
        "加密文件已被改动或截断。", "请使用文件的其他副本；未保留其中任何内容。"),
    "base.vault-malformed": ErrorRow(
        "skip", 400, 4,
        "This is not a sealed file of guantong.", "Give the file that guantong backup wrote.",
        "这不是 guantong 的加密文件。", "请提供由 guantong backup 写出的文件。"),
    # records
    "records.conflict": ErrorRow(
        "retry", 409, 3,
        "{table} {key} changed meanwhile; it is no longer {expected}.", "Read it again and decide anew.",
        "{table} {key} 在此期间已变化，不再是 {expected}。", "请重新读取后再决定。"),
    "records.disk-full": ErrorRow(
        "retry", 507, 3,
        "The records could not be written: {reason}.", "Free disk space; the step was not recorded and can be repeated.",
        "记录无法写入：{reason}。", "请腾出磁盘空间；该步骤未被记录，可以重做。"),
    "records.entry-too-large": ErrorRow(
        "config", 500, 2,
        "An evidence entry of kind {kind} has {size} bytes; at most 65,535 are allowed.", "Record a digest instead of the payload.",
        "类型为 {kind} 的存证条目有 {size} 字节，上限为 65,535。", "请记录摘要而不是内容本身。"),
    "records.limit-reached": ErrorRow(
        "refused", 403, 1,
        "The limit of {limit} for {name} is reached.", "Ask the provider for a new agreement if more is needed.",
        "{name} 已达到上限 {limit}。", "如需更多，请与提供方签订新的合约。"),
    "records.sender-missing": ErrorRow(
        "refused", 500, 1,
        "Nobody is registered to send messages of the kind {kind}.", "Restart with the stage that sends them.",
        "没有登记发送 {kind} 类消息的阶段。", "请启用相应阶段后重启。"),
    "records.unopenable": ErrorRow(
        "corrupt", 500, 5,
        "The records at {url} can't be opened: {reason}.", "Check the path and the database server; restore from a back-up if damaged.",
        "无法打开位于 {url} 的记录库：{reason}。", "请检查路径和数据库服务；若已损坏请从备份恢复。"),
    "records.newer": ErrorRow(
        "config", 500, 2,
        "The records were written by a newer guantong (schema {found}; this one knows {known}).", "Install that version or newer.",
        "记录库由更新版本的 guantong 写入（结构 {found}，本版本只认识 {known}）。", "请安装该版本或更新版本。"),
    "records.write-failed": ErrorRow(
        "retry", 503, 3,
        "The records could not be written: {reason}.", "Nothing of the step was recorded and it can be repeated. See that the database is there and may be written; a missing table means that its schema was never made: start the node, not a part of it.",
        "记录无法写入：{reason}。", "该步骤未被记录，可以重做。请确认数据库存在且可写；若缺少数据表，说明结构尚未建立：请启动完整节点，而不是其中一部分。"),
    # connect
    "connect.address-unusable": ErrorRow(
        "config", 400, 2,
        "The address {base} can't be used: {reason}.", "Write it as shdr://host:7878, http://host:5000/, opc.tcp://host:4840, mqtt://host:1883/, sparkplug://host:1883/, modbus+tcp://host:502/1/, s7://host:102/0/1 or file:///folder.",
        "地址 {base} 无法使用：{reason}。", "请写成 shdr://主机:7878、http://主机:5000/、opc.tcp://主机:4840、mqtt://主机:1883/、sparkplug://主机:1883/、modbus+tcp://主机:502/1/、s7://主机:102/0/1 或 file:///目录。"),
    "connect.agent-error": ErrorRow(
        "retry", 502, 3,
        "The agent at {base} answered with {error}.", "It is asked again by itself; if this stays, look into the agent's log.",
        "代理 {base} 返回 {error}。", "系统会自动重试；若持续出现，请查看该代理的日志。"),
    "connect.certificate-unknown": ErrorRow(
        "config", 403, 2,
        "The server at {base} shows a certificate that nobody has accepted: SHA-256 {thumbprint}.", "Compare it at the server; if it is the right one, put it into the interface as “thumbprint” of the channel's scheme.",
        "{base} 的服务器出示了未经确认的证书：SHA-256 {thumbprint}。", "请在服务器上核对；确认无误后，将其作为通道安全方案的 “thumbprint” 写入接口。"),
    "connect.credentials-missing": ErrorRow(
        "config", 401, 2,
        "For {base} no {what} is kept, which its interface asks for.", "Put it into the secret store under this address.",
        "密钥库中没有 {base} 所需的 {what}。", "请按该地址存入密钥库。"),
    "connect.document-hostile": ErrorRow(
        "refused", 422, 1,
        "The document {name} declares a document type or entities; such documents are refused.", "Ask its maker for plain XML without a DOCTYPE.",
        "文档 {name} 声明了 DOCTYPE 或实体，已拒绝。", "请让出具方提供不含 DOCTYPE 的 XML。"),
    "connect.document-too-large": ErrorRow(
        "skip", 413, 4,
        "{name} has {size} bytes; at most {limit} are taken.", "Split it, or raise the limit in the settings of connect.",
        "{name} 有 {size} 字节，上限为 {limit}。", "请拆分后再送，或在 connect 设置中调高上限。"),
    "connect.document-unreadable": ErrorRow(
        "skip", 422, 4,
        "{name} can't be read: {reason}.", "Ask its maker to send it again whole.",
        "无法读取 {name}：{reason}。", "请让出具方重新完整发送。"),
    "connect.edge-answer": ErrorRow(
        "retry", 503, 3,
        "The node at {url} answered {status}.", "Nothing is lost: the gateway keeps its log and sends again. See the node's log for the reason.",
        "位于 {url} 的节点返回 {status}。", "数据未丢失：网关保留日志并会重发。原因请查看节点日志。"),
    "connect.edge-code-refused": ErrorRow(
        "refused", 403, 1,
        "The one-time code is unknown, used up or too old.", "Make a new one on the node: guantong edges invite",
        "一次性代码不存在、已使用或已过期。", "请在节点上重新生成：guantong edges invite"),
    "connect.edge-frame-unreadable": ErrorRow(
        "skip", 400, 4,
        "Frame {number} of a gateway's request can't be read: {reason}.", "Gateway and node should be of one version; what was damaged on the way is sent again.",
        "网关请求中的第 {number} 帧无法读取：{reason}。", "网关与节点的版本应一致；传输中损坏的内容会重发。"),
    "connect.edge-insecure": ErrorRow(
        "config", 400, 2,
        "{address} is plain http to another machine.", "Give the node a certificate (web.tls-certificate, web.tls-key) and use its https address.",
        "{address} 以明文 http 连接另一台机器。", "请为节点配置证书（web.tls-certificate、web.tls-key），并使用其 https 地址。"),
    "connect.edge-name-invalid": ErrorRow(
        "skip", 400, 4,
        "A gateway can't be called {name!r}.", "Choose a name of 1 to 60 characters without a slash that no other gateway has.",
        "网关不能命名为 {name!r}。", "请选择 1 至 60 个字符、不含斜杠且未被其他网关使用的名称。"),
    "connect.edge-not-enrolled": ErrorRow(
        "config", 400, 2,
        "There is no gateway in {directory}.", "Enrol it first: guantong edge enrol URL CODE",
        "{directory} 中没有网关。", "请先登记：guantong edge enrol 地址 代码"),
    "connect.edge-plain": ErrorRow(
        "refused", 403, 1,
        "Gateways are heard over TLS, or on loopback.", "Give the node a certificate (web.tls-certificate, web.tls-key).",
        "仅通过 TLS 或本机回环接受网关。", "请为节点配置证书（web.tls-certificate、web.tls-key）。"),
    "connect.edge-refused": ErrorRow(
        "refused", 401, 1,
        "The node does not know this gateway (answer {status}).", "It may have been removed; enrol it again with a new code.",
        "节点不认识该网关（返回 {status}）。", "它可能已被移除；请用新代码重新登记。"),
    "connect.edge-unknown": ErrorRow(
        "skip", 404, 4,
        "There is no gateway {edge}.", "See the list of gateways.",
        "没有网关 {edge}。", "请查看网关列表。"),
    "connect.file-unreadable": ErrorRow(
        "config", 422, 2,
        "The file {path} can't be read: {reason}.", "Check the path, the permissions and the form of the file.",
        "无法读取文件 {path}：{reason}。", "请检查路径、权限和文件格式。"),
    "connect.interface-unreadable": ErrorRow(
        "skip", 422, 4,
        "This interface description can't be read: {reason}.", "Send an Asset Interfaces Description 1.1 submodel as JSON.",
        "无法读取该接口描述：{reason}。", "请提供 JSON 格式的资产接口描述（AID 1.1）子模型。"),
    "connect.kind-unknown": ErrorRow(
        "config", 400, 2,
        "There is no reader of kind {kind}.", "Use one of: {known}.",
        "没有类型为 {kind} 的读取器。", "可用类型：{known}。"),
    "connect.lost": ErrorRow(
        "retry", 502, 3,
        "The connection to {base} was lost: {reason}.", "It is restored by itself; the interruption is on record.",
        "与 {base} 的连接中断：{reason}。", "系统会自动恢复，中断已记录在案。"),
    "connect.not-a-number": ErrorRow(
        "skip", 422, 4,
        "“{text}” stands where the machine's description promises a number.", "Correct the description, or the adapter.",
        "设备描述要求此处为数值，实际是 “{text}”。", "请修正设备描述或适配器。"),
    "connect.not-finite": ErrorRow(
        "skip", 422, 4,
        "“{text}” is not a finite number.", "Let the adapter send UNAVAILABLE where it has no value.",
        "“{text}” 不是有限数值。", "没有数值时，请让适配器发送 UNAVAILABLE。"),
    "connect.refused": ErrorRow(
        "config", 502, 2,
        "{base} refused the connection: {reason}.", "Check user, password and rights of this source in the secret store.",
        "{base} 拒绝连接：{reason}。", "请核对密钥库中该数据源的用户名、密码和权限。"),
    "connect.password-readable": ErrorRow(
        "refused", 403, 1,
        "The server at {base} wants the password readable over an open channel; it is not sent.", "Ask for SignAndEncrypt in the interface, or let the server name a security policy for user names.",
        "{base} 的服务器要求在未加密的通道上明文传送密码，未发送。", "请在接口中要求 SignAndEncrypt，或让服务器为用户名指定安全策略。"),
    "connect.secret-in-address": ErrorRow(
        "config", 400, 2,
        "The address of {name} holds a user name or password.", "Take it out of the address and put it into the secret store.",
        "{name} 的地址中含有用户名或密码。", "请从地址中去掉，改存到密钥库。"),
    "connect.secrets-unreadable": ErrorRow(
        "config", 500, 2,
        "The file of secrets {path} can't be used: {reason}.", "It is TOML: a table for each address with user, password or token.",
        "密钥文件 {path} 无法使用：{reason}。", "文件为 TOML 格式：每个地址一张表，含 user、password 或 token。"),
    "connect.security-unsupported": ErrorRow(
        "config", 501, 2,
        "{name} asks for {scheme}, which this version can't keep; it is not read without.", "Offer the source on a protected network without it, or wait for a version that can.",
        "{name} 要求 {scheme}，当前版本无法满足，因此不会降级读取。", "请在受保护的网络内以无此要求的方式提供该数据源，或等待支持它的版本。"),
    "connect.silent": ErrorRow(
        "retry", 504, 3,
        "{base} has said nothing for {seconds} s although it should.", "It is connected anew by itself; check the network if this stays.",
        "{base} 已有 {seconds} 秒没有任何应答。", "系统会自动重新连接；若持续出现，请检查网络。"),
    "connect.source-exists": ErrorRow(
        "config", 409, 2,
        "There is already a source named {name}.", "Choose another name, or remove the old source first.",
        "名为 {name} 的数据源已存在。", "请换一个名称，或先移除原有数据源。"),
    "connect.source-unknown": ErrorRow(
        "config", 404, 2,
        "There is no source named {name}.", "List the sources and use one of their names.",
        "没有名为 {name} 的数据源。", "请查看数据源列表，使用其中的名称。"),
    "connect.token-refused": ErrorRow(
        "refused", 401, 1,
        "There is no webhook {source} that this token opens.", "Send the token as Authorization: Bearer, or make a new one for the source.",
        "没有可用此令牌打开的 Webhook {source}。", "请以 Authorization: Bearer 发送令牌，或为该数据源新建令牌。"),
    "connect.unreachable": ErrorRow(
        "retry", 502, 3,
        "{base} can't be reached: {reason}.", "Check that it runs and that address and port are right; it is tried again by itself.",
        "无法连接 {base}：{reason}。", "请确认设备在运行、地址和端口正确；系统会自动重试。"),
    # keep
    "keep.backup-failed": ErrorRow(
        "retry", 507, 3,
        "The back-up could not be written ({path}): {reason}.", "Free disk space or choose another place; nothing half-written is left.",
        "无法写入备份（{path}）：{reason}。", "请腾出磁盘空间或换一个位置；没有留下写了一半的文件。"),
    "keep.backup-inside": ErrorRow(
        "config", 400, 2,
        "The back-up {path} would lie inside the node's own directory.", "Choose a place outside, best on another disk.",
        "备份 {path} 会位于节点自己的目录之内。", "请选择目录之外的位置，最好在另一块磁盘上。"),
    "keep.batch-unfit": ErrorRow(
        "skip", 422, 4,
        "A batch from {source} does not fit the log: {reason}.", "Send smaller batches with the columns of base/batch.py.",
        "来自 {source} 的一批数据无法写入日志：{reason}。", "请分成较小的批次，并使用 base/batch.py 规定的列。"),
    "keep.blob-differs": ErrorRow(
        "corrupt", 409, 5,
        "Other bytes are already stored under {name}.", "Keep both as evidence and find out who wrote them; stored bytes never change.",
        "{name} 名下已存有不同的内容。", "请保留两份作为证据并查明来源；已存的内容不会被改写。"),
    "keep.blob-name": ErrorRow(
        "config", 400, 2,
        "“{name}” is not a name for a blob.", "Use letters, digits, dot, dash and underscore, in parts separated by /.",
        "“{name}” 不能作为存储名称。", "请用字母、数字、点、横线和下划线，各段之间用 / 分隔。"),
    "keep.blob-unreadable": ErrorRow(
        "retry", 503, 3,
        "{name} can't be read from its store: {reason}.", "Check the folder or the object store; reading can be repeated.",
        "无法从存储中读取 {name}：{reason}。", "请检查文件夹或对象存储，之后可重新读取。"),
    "keep.blob-unwritable": ErrorRow(
        "retry", 507, 3,
        "{name} can't be stored: {reason}.", "Free disk space or check the object store; nothing was stored and it can be repeated.",
        "无法存储 {name}：{reason}。", "请腾出磁盘空间或检查对象存储；尚未写入任何内容，可以重做。"),
    "keep.cipher-unknown": ErrorRow(
        "config", 500, 2,
        "The cipher “{cipher}” is not known.", "Set keep.cipher to one of: {known}.",
        "未知的加密算法 “{cipher}”。", "请将 keep.cipher 设为以下之一：{known}。"),
    "keep.closed": ErrorRow(
        "retry", 503, 3,
        "The store of readings is not open.", "Start the node, or wait until it has started.",
        "数据存储尚未打开。", "请启动节点，或等待其启动完成。"),
    "keep.disk-full": ErrorRow(
        "retry", 507, 3,
        "The durable log could not be written: {reason}.", "Free disk space; the batch was not acknowledged and is sent again.",
        "持久日志无法写入：{reason}。", "请腾出磁盘空间；该批数据未被确认，会再次发送。"),
    "keep.in-use": ErrorRow(
        "config", 409, 2,
        "The folder {directory} is in use by another process.", "Stop the other node, or give this one a folder of its own.",
        "文件夹 {directory} 正被另一个进程使用。", "请停止另一个节点，或为本节点另设文件夹。"),
    "keep.key-missing": ErrorRow(
        "config", 500, 2,
        "The durable log is encrypted and no key was given.", "Set keep.key-file to the file with its key.",
        "持久日志已加密，但未提供密钥。", "请把 keep.key-file 设为密钥所在的文件。"),
    "keep.key-other": ErrorRow(
        "config", 500, 2,
        "The durable log is encrypted with another key ({known}) than the one given ({found}).", "Set keep.key-file to the file with the log's own key.",
        "持久日志使用的密钥（{known}）与所提供的（{found}）不同。", "请把 keep.key-file 设为该日志自己的密钥文件。"),
    "keep.key-unfit": ErrorRow(
        "config", 500, 2,
        "The key file {path} can't be used: {reason}.", "Make one outside the node's directory, for example: openssl rand -hex 32",
        "密钥文件 {path} 无法使用：{reason}。", "请在节点目录之外生成一个，例如：openssl rand -hex 32"),
    "keep.log-behind": ErrorRow(
        "corrupt", 500, 5,
        "The table {table} is committed up to log position {found}, but the log knows only {known}.",
        "Restore the log that belongs to these tables; with a foreign or empty log, rows would be lost or doubled.",
        "数据表 {table} 已提交到日志位置 {found}，而日志只到 {known}。",
        "请恢复与这些数据表配套的日志；使用其他日志或空日志会造成数据丢失或重复。"),
    "keep.log-damaged": ErrorRow(
        "corrupt", 500, 5,
        "Entry {position} of the durable log is not what was written.", "Keep the file as evidence and check the disk; later entries can still be read.",
        "持久日志的第 {position} 条与写入时不一致。", "请保留该文件作为证据并检查磁盘；其后的条目仍可读取。"),
    "keep.log-full": ErrorRow(
        "retry", 507, 3,
        "The durable log is full ({used} of {limit} bytes) and nothing in it may be trimmed yet.",
        "See why fusion or the tables fall behind, or raise keep.log_bytes_max; the batch was not acknowledged and is sent again.",
        "持久日志已满（已用 {used} 字节，上限 {limit}），且其中内容尚不能清理。",
        "请查看融合或数据表为何滞后，或调高 keep.log_bytes_max；该批数据未被确认，会再次发送。"),
    "keep.log-newer": ErrorRow(
        "config", 500, 2,
        "The durable log was written by a newer guantong (format {found}; this one knows {known}).", "Install that version or newer.",
        "持久日志由更新版本的 guantong 写入（格式 {found}，本版本只认识 {known}）。", "请安装该版本或更新版本。"),
    "keep.log-unopenable": ErrorRow(
        "corrupt", 500, 5,
        "The durable log {path} can't be opened: {reason}.", "Check the path and its rights; restore from a back-up if it is damaged.",
        "无法打开持久日志 {path}：{reason}。", "请检查路径和权限；若已损坏请从备份恢复。"),
    "keep.query-invalid": ErrorRow(
        "skip", 400, 4,
        "This query can't be answered: {reason}.", "Correct the argument and ask again.",
        "无法回答该查询：{reason}。", "请改正参数后重试。"),
    "keep.query-lost": ErrorRow(
        "retry", 503, 3,
        "The query was lost: {reason}.", "Ask again, for fewer signals or a shorter time if it happens again.",
        "查询意外中断：{reason}。", "请重试；若再次发生，请减少信号或缩短时间范围。"),
    "keep.query-too-large": ErrorRow(
        "refused", 413, 1,
        "The answer would exceed the limit of {limit}.", "Ask for fewer signals or a shorter time, or downsample; exports stream without this limit.",
        "查询结果会超过上限 {limit}。", "请减少信号或缩短时间范围，或使用降采样；导出不受此限。"),
    "keep.query-too-long": ErrorRow(
        "refused", 503, 1,
        "The query was stopped after {seconds} s.", "Ask for fewer signals or a shorter time.",
        "查询在 {seconds} 秒后被中止。", "请减少信号或缩短时间范围。"),
    "keep.restore-failed": ErrorRow(
        "retry", 500, 3,
        "The back-up {path} could not be restored: {reason}.", "Check the path, the free space and the rights; nothing half-restored is left.",
        "无法从备份 {path} 恢复：{reason}。", "请检查路径、剩余空间和权限；没有留下恢复了一半的内容。"),
    "keep.restore-newer": ErrorRow(
        "corrupt", 500, 5,
        "The back-up was written by a newer guantong (format {found}; this one knows {known}).", "Install that version or newer.",
        "备份由更新版本的 guantong 写出（格式 {found}，本版本只认识 {known}）。", "请安装该版本或更新版本。"),
    "keep.restore-occupied": ErrorRow(
        "config", 409, 2,
        "The directory {directory} is not empty.", "Restore into an empty directory, then point the node at it.",
        "目录 {directory} 不为空。", "请恢复到空目录，再让节点使用它。"),
    "keep.rows-unfit": ErrorRow(
        "config", 500, 2,
        "Rows for the table {table} do not fit it: {reason}.", "Hand over the columns and types of keep/model.py; a named table keeps its types.",
        "写入数据表 {table} 的行不符合要求：{reason}。", "请按 keep/model.py 的列与类型提供数据；具名数据表的列类型不会改变。"),
    "keep.seal-broken": ErrorRow(
        "corrupt", 500, 5,
        "The encrypted value {name} is not what was written.", "Keep the file as evidence and restore it from a back-up.",
        "加密内容 {name} 与写入时不一致。", "请保留该文件作为证据，并从备份恢复。"),
    "keep.table-unreadable": ErrorRow(
        "retry", 503, 3,
        "The table {table} can't be read: {reason}.", "Check the folder or the object store of the tables.",
        "无法读取数据表 {table}：{reason}。", "请检查数据表所在的文件夹或对象存储。"),
    "keep.table-unwritable": ErrorRow(
        "retry", 503, 3,
        "The table {table} can't be committed: {reason}.", "Free disk space or check the object store; the rows are safe in the log and are committed later.",
        "数据表 {table} 无法提交：{reason}。", "请腾出磁盘空间或检查对象存储；数据已在日志中，稍后会再次提交。"),
    # fuse
    "fuse.aggregate-unknown": ErrorRow(
        "skip", 400, 4,
        "This can't be aggregated: {name}.", "Use a name of OPC UA Part 13 from the list, and at most a million intervals longer than zero.",
        "无法聚合：{name}。", "名称采用 OPC UA 第 13 部分中贯通支持的聚合；区间须大于零且不超过一百万个。"),
    "fuse.limits-invalid": ErrorRow(
        "config", 400, 2,
        "These limits can't be used: {reason}.", "Correct the limits and state them again.",
        "这些限值无法使用：{reason}。", "请更正限值后重新设定。"),
    "fuse.mapping-invalid": ErrorRow(
        "skip", 400, 4,
        "The mapping {name} can't be used: {reason}.", "Correct the mapping document and set it again.",
        "映射 {name} 无法使用：{reason}。", "请更正映射文件后重新设定。"),
    "fuse.no-such-mapping": ErrorRow(
        "skip", 404, 4,
        "There is no mapping {name}.", "See the list of mappings for its name.",
        "没有名为 {name} 的映射。", "请在映射列表中查看名称。"),
    "fuse.no-such-signal": ErrorRow(
        "skip", 404, 4,
        "There is no signal {signal}.", "See the list of signals for its number.",
        "没有编号为 {signal} 的信号。", "请在信号列表中查看编号。"),
    "fuse.no-such-suggestion": ErrorRow(
        "skip", 404, 4,
        "There is no open suggestion {id}.", "Ask for the suggestions again; it may have been decided.",
        "没有待处理的建议 {id}。", "请重新列出建议，它可能已有结论。"),
    "fuse.too-few-readings": ErrorRow(
        "skip", 422, 4,
        "Too few readings: {found} of {wanted}.", "Choose a longer window, or signals that change in it.",
        "读数太少：{found}，需要 {wanted}。", "请选择更长的时段，或选择在其中有变化的信号。"),
    # describe
    "describe.bad-cursor": ErrorRow(
        "skip", 400, 4,
        "The cursor of this page can't be read.", "Begin again without a cursor.",
        "无法识别该分页游标。", "请不带游标从头开始。"),
    "describe.bad-path": ErrorRow(
        "skip", 400, 4,
        "“{path}” is not an idShort path.", "Write it like Segments.Records[0].Time; list members by index only.",
        "“{path}” 不是 idShort 路径。", "请写成 Segments.Records[0].Time 的形式，列表成员只用序号。"),
    "describe.bad-request": ErrorRow(
        "skip", 400, 4,
        "{name} is not usable: {reason}.", "Correct the parameter and ask again.",
        "{name} 不可用：{reason}。", "请更正该参数后重试。"),
    "describe.constraints": ErrorRow(
        "config", 500, 2,
        "The description of {id} breaks the AAS metamodel: {reason}.", "Correct the facts stated for the asset; nothing was written.",
        "{id} 的描述不符合 AAS 元模型：{reason}。", "请更正该资产的陈述；尚未写入任何内容。"),
    "describe.dataset-invalid": ErrorRow(
        "skip", 400, 4,
        "The dataset {dataset} can't be defined: {reason}.", "Correct the definition and send it again.",
        "无法定义数据集 {dataset}：{reason}。", "请更正定义后重新提交。"),
    "describe.denied": ErrorRow(
        "refused", 403, 1,
        "{action} of {object} is not allowed.", "Ask the owner for an agreement that covers it.",
        "不允许对 {object} 执行 {action}。", "请向所有者申请涵盖该内容的合约。"),
    "describe.unknown": ErrorRow(
        "skip", 404, 4,
        "There is no {what} {id} here.", "Look at the list for the names that exist.",
        "这里没有名为 {id} 的{what}。", "请在列表中查看已有名称。"),
    "describe.unknown-dataset": ErrorRow(
        "skip", 404, 4,
        "There is no dataset {dataset}.", "Define it first, or correct the name.",
        "没有数据集 {dataset}。", "请先定义该数据集，或更正名称。"),
    # govern
    "govern.denied": ErrorRow(
        "refused", 403, 1,
        "{subject} may not {action} {object} ({reason}).", "Ask the owner for an agreement that allows it.",
        "{subject} 不得对 {object} 执行 {action}（{reason}）。", "请向所有者申请允许此操作的合约。"),
    "govern.not-graded": ErrorRow(
        "skip", 409, 4,
        "{subject} has not been graded.", "Classify it first, then grade the fusion.",
        "{subject} 尚未定级。", "请先对其分类分级，再对融合数据定级。"),
    "govern.pack-broken": ErrorRow(
        "config", 500, 2,
        "The rule pack {pack} can't be used: {reason}.", "Correct the file; each rule needs source, clause, version and evidence mark.",
        "规则包 {pack} 无法使用：{reason}。", "请更正文件；每条规则都要有来源、条款、版本和证据标记。"),
    "govern.policy-unreadable": ErrorRow(
        "refused", 400, 1,
        "The policies of this agreement can't be used: {reason}.", "Offer terms that this node can enforce.",
        "该合约的策略无法使用：{reason}。", "请提供本节点能够执行的条款。"),
    "govern.rights-incomplete": ErrorRow(
        "skip", 400, 4,
        "The rights statement of {dataset} lacks or misstates: {fields}.", "State holder, processor, operator, source of the right, evidence and period.",
        "数据集 {dataset} 的权利声明缺少或写错：{fields}。", "请写明持有、使用、经营三方，权利来源、凭证和期限。"),
    "govern.rights-missing": ErrorRow(
        "refused", 409, 1,
        "Nobody has stated the rights in the dataset {dataset}, or the statement is not in force: it can't be offered.", "State who holds, uses and operates it, and on what ground.",
        "尚未声明数据集 {dataset} 的权利，或声明不在有效期内，不能对外提供。", "请写明谁持有、谁使用、谁经营，以及权利来源。"),
    # exchange
    "exchange.agreement-differs": ErrorRow(
        "refused", 400, 1,
        "The agreement is not the one that was asked for: {part}.", "Send the agreement for the offer that was asked for, or make a new offer.",
        "收到的合约与所请求的不一致：{part}。", "请按所请求的要约出具合约，或重新提出要约。"),
    "exchange.agreement-unknown": ErrorRow(
        "refused", 400, 1,
        "There is no valid agreement {agreement}.", "Negotiate a contract first, or check the identifier.",
        "没有有效的合约 {agreement}。", "请先协商签约，或核对标识。"),
    "exchange.amendment-closed": ErrorRow(
        "refused", 409, 1,
        "The proposal {amendment} can't be answered: it is {state}.", "Look at the agreement's proposals.",
        "提议 {amendment} 无法答复：其状态为 {state}。", "请查看该合约的各项提议。"),
    "exchange.amendment-open": ErrorRow(
        "refused", 409, 1,
        "The proposal {amendment} for this agreement is still open.", "Wait for its answer, or answer it.",
        "该合约的提议 {amendment} 尚未答复。", "请等待答复，或先行答复。"),
    "exchange.amendment-unknown": ErrorRow(
        "refused", 404, 1,
        "There is no proposal {amendment}.", "Look at the agreement's proposals.",
        "没有提议 {amendment}。", "请查看该合约的各项提议。"),
    "exchange.answer-unusable": ErrorRow(
        "refused", 502, 1,
        "{partner} answered {status} to {message}: {reason}.", "Ask the partner what its connector expects.",
        "{partner} 对 {message} 的答复是 {status}：{reason}。", "请与伙伴确认其连接器的要求。"),
    "exchange.body-unreadable": ErrorRow(
        "skip", 502, 4,
        "The delivered data can't be read: {reason}.", "Pull again; if it repeats, ask the provider.",
        "无法读取交付的数据：{reason}。", "请重新拉取；若仍如此，请联系提供方。"),
    "exchange.claims-refused": ErrorRow(
        "refused", 401, 1,
        "The caller's credentials are not accepted: {reason}.", "Present the required credentials of a trusted issuer; both are in the settings of exchange.",
        "未接受对方的凭证：{reason}。", "请出示可信签发方签发的所需凭证，二者见 exchange 设置。"),
    "exchange.claims-unreachable": ErrorRow(
        "retry", 502, 3,
        "The caller's credentials can't be checked now: {address}: {reason}.", "It is tried again with the next request.",
        "暂时无法核验对方的凭证：{address}：{reason}。", "下次请求时会再次核验。"),
    "exchange.dataset-unknown": ErrorRow(
        "refused", 404, 1,
        "There is no dataset {dataset} on offer here.", "Look it up in the catalogue.",
        "此处没有可提供的数据集 {dataset}。", "请在目录中查找。"),
    "exchange.decision-denied": ErrorRow(
        "refused", 403, 1,
        "Access was denied: {reason}.", "Ask the provider which rule applies.",
        "访问被拒绝：{reason}。", "请向提供方询问适用的规则。"),
    "exchange.definition-unsupported": ErrorRow(
        "refused", 501, 1,
        "Presentation definitions are not understood here.", "Ask with scopes.",
        "本节点不支持 presentationDefinition 查询。", "请改用 scope 查询。"),
    "exchange.demand-invalid": ErrorRow(
        "skip", 400, 4,
        "This is no demand: {reason}.", "Give an id, a title and at least one quantity, for example `Temperature:Cel`.",
        "这不是有效的数据需求：{reason}。", "请给出标识、标题和至少一个量，例如 `Temperature:Cel`。"),
    "exchange.demand-unknown": ErrorRow(
        "refused", 404, 1,
        "No demand {demand} is published here.", "List them with `guantong demands list`.",
        "此处没有发布数据需求 {demand}。", "请用 `guantong demands list` 查看。"),
    "exchange.demands-full": ErrorRow(
        "refused", 409, 1,
        "{limit} demands are published already.", "Withdraw one that is served.",
        "已发布 {limit} 个数据需求。", "请撤回已得到满足的需求。"),
    "exchange.did-refused": ErrorRow(
        "refused", 400, 1,
        "The identifier {did} can't be accepted: {reason}.", "Use a did:web served over HTTPS.",
        "无法接受标识 {did}：{reason}。", "请使用通过 HTTPS 提供的 did:web。"),
    "exchange.did-unresolved": ErrorRow(
        "retry", 502, 3,
        "The DID document of {did} could not be read: {reason}.", "Check that the partner's node is reachable.",
        "无法读取 {did} 的 DID 文档：{reason}。", "请确认伙伴节点可以访问。"),
    "exchange.duty-unknown": ErrorRow(
        "refused", 404, 1,
        "There is no duty {duty} to confirm under {agreement}.", "Look up the duties of the contract; only the consumer confirms its own.",
        "合约 {agreement} 下没有可确认的义务 {duty}。", "请查看该合约的义务；只有使用方可以确认自己的义务。"),
    "exchange.exposure-reached": ErrorRow(
        "refused", 403, 1,
        "{blocks} blocks delivered under {agreement} are not countersigned yet, {limit} may be.", "The consumer's node must be reachable to countersign its receipts; then ask again.",
        "合约 {agreement} 下已交付 {blocks} 个数据块尚未回签，上限为 {limit}。", "使用方节点须可达并完成回签，之后再请求。"),
    "exchange.filter-unsupported": ErrorRow(
        "refused", 400, 1,
        "This catalogue filter is not understood.", "Ask without a filter, or with an EDC QuerySpec.",
        "无法识别该目录过滤条件。", "请不带过滤条件查询，或使用 EDC QuerySpec。"),
    "exchange.fingerprint-refused": ErrorRow(
        "refused", 409, 1,
        "No fingerprint can be given to this copy: {reason}.", "State the column, what makes a row itself, and the measuring resolution of each series.",
        "无法为该副本加入指纹：{reason}。", "请声明数值列、行标识列以及每个序列的测量分辨率。"),
    "exchange.flow-known": ErrorRow(
        "refused", 409, 1,
        "There is a data flow for the process {process} already.", "Ask for its status, or begin a new process.",
        "流程 {process} 已有数据流。", "请查询其状态，或发起新的流程。"),
    "exchange.grant-refused": ErrorRow(
        "refused", 400, 1,
        "The refresh token is not accepted: {reason}.", "Begin a new transfer to get new tokens.",
        "未接受该刷新令牌：{reason}。", "请发起新的传输以获取新令牌。"),
    "exchange.guest-file-refused": ErrorRow(
        "refused", 422, 1,
        "The guest's file is not taken: {reason}.", "Share a CSV or QIF file within the limit, exactly as it was signed.",
        "未接收该访客方文件：{reason}。", "请共享大小在上限之内、与签名时完全一致的 CSV 或 QIF 文件。"),
    "exchange.guest-file-unreadable": ErrorRow(
        "skip", 400, 4,
        "This is not a guest's file: {reason}.", "Take it again from the guest's page: Take along.",
        "这不是访客方的文件：{reason}。", "请从访客页面的“带走”重新下载。"),
    "exchange.guest-not-shared": ErrorRow(
        "refused", 403, 1,
        "“{share}” is not shared for this purpose: {purpose}.", "Ask the guest for this use; after it revoked, nothing of it may be used.",
        "“{share}”未共享用于该用途：{purpose}。", "请向访客方请求该用途；其撤销之后不得再使用。"),
    "exchange.guest-refused": ErrorRow(
        "refused", 403, 1,
        "This is not accepted in the guest's name: {reason}.", "Open the guest page again with the browser that holds the key.",
        "未以访客方名义接受：{reason}。", "请用保存密钥的浏览器重新打开访客页面。"),
    "exchange.guest-repeated": ErrorRow(
        "refused", 409, 1,
        "This was stated before and counts once.", "Read the guest page again; it shows what is on record.",
        "该声明此前已提交，只计一次。", "请刷新访客页面，查看已记录的内容。"),
    "exchange.guest-text": ErrorRow(
        "skip", 400, 4,
        "Purpose and terms need 1 to 4000 characters, this has {length}.", "Write in plain words what the data is used for.",
        "用途和条款须为 1 至 4000 个字符，当前为 {length} 个。", "请用平实的文字写明数据的用途。"),
    "exchange.guest-unknown": ErrorRow(
        "refused", 404, 1,
        "There is no guest {guest} here.", "List the guests with `guantong guests list`, or invite one with `guantong space invite --guest`.",
        "此处没有访客方 {guest}。", "请用 `guantong guests list` 查看，或用 `guantong space invite --guest` 邀请。"),
    "exchange.invitation-refused": ErrorRow(
        "refused", 403, 1,
        "The invitation is not accepted: {reason}.", "Ask the leader of the space for a new link; each link works once.",
        "邀请未被接受：{reason}。", "请向空间发起方索取新的链接，每个链接只能用一次。"),
    "exchange.invitation-unreadable": ErrorRow(
        "skip", 400, 4,
        "“{link}” is no invitation to a space.", "Copy the whole link, with what stands behind the #, and put it in quotation marks.",
        "“{link}” 不是空间邀请链接。", "请复制完整链接（包括 # 之后的部分），并加上引号。"),
    "exchange.member-unknown": ErrorRow(
        "refused", 404, 1,
        "{member} is no member of this space.", "Look at the members: guantong space members",
        "{member} 不是本空间成员。", "请查看成员列表：guantong space members"),
    "exchange.message-invalid": ErrorRow(
        "refused", 400, 1,
        "The message is not a valid {message}: {reason}.", "Compare it with the Dataspace Protocol 2025-1.",
        "该消息不是有效的 {message}：{reason}。", "请对照 Dataspace Protocol 2025-1 检查。"),
    "exchange.message-too-large": ErrorRow(
        "refused", 413, 1,
        "The message is larger or deeper than {limit} allows.", "Send less in one message.",
        "消息的大小或嵌套深度超过上限 {limit}。", "请减少单条消息的内容。"),
    "exchange.no-rights": ErrorRow(
        "refused", 409, 1,
        "No rights are stated for the dataset {dataset}, so it can't be offered.", "State holder and source of the rights first.",
        "数据集 {dataset} 尚无权属声明，不能上架。", "请先声明持有人和权利来源。"),
    "exchange.not-rehearsed": ErrorRow(
        "refused", 409, 1,
        "The offer of {dataset} was not rehearsed as it stands.", "See what it would have done first: guantong rehearse {dataset}, with the same policy, price and terms.",
        "{dataset} 的这份要约尚未预演。", "请先用相同的策略、价格和条款查看预演：guantong rehearse {dataset}。"),
    "exchange.offer-unknown": ErrorRow(
        "refused", 404, 1,
        "There is no offer {offer} here.", "Read the catalogue again and ask for one of its offers.",
        "此处没有要约 {offer}。", "请重新读取目录，选择其中的要约。"),
    "exchange.participant-unknown": ErrorRow(
        "refused", 404, 1,
        "This node does not host {participant}.", "Check the address.",
        "本节点不托管 {participant}。", "请核对地址。"),
    "exchange.partner-busy": ErrorRow(
        "retry", 503, 3,
        "{partner} could not take {message} now ({status}).", "It is sent again by itself.",
        "{partner} 暂时无法接收 {message}（{status}）。", "系统会自动重发。"),
    "exchange.plane-taken": ErrorRow(
        "refused", 409, 1,
        "This data plane belongs to the control plane {control_plane}.", "Let that one leave first (DELETE /controlplanes/:id).",
        "本数据面已属于控制面 {control_plane}。", "请先让其注销（DELETE /controlplanes/:id）。"),
    "exchange.plane-unknown": ErrorRow(
        "refused", 404, 1,
        "No data plane {plane} is registered here.", "Register it, or let this node serve the dataset itself.",
        "此处没有注册数据面 {plane}。", "请先注册，或改由本节点自行提供该数据集。"),
    "exchange.process-unknown": ErrorRow(
        "refused", 404, 1,
        "There is no process {pid}.", "Check the identifier.",
        "没有流程 {pid}。", "请核对标识。"),
    "exchange.product-unknown": ErrorRow(
        "refused", 404, 1,
        "There is no product {product}.", "Look it up among the products.",
        "没有产品 {product}。", "请在产品列表中查找。"),
    "exchange.push-failed": ErrorRow(
        "retry", 502, 3,
        "The data can't be pushed to {address} now: {reason}.", "It is tried again by itself; if this stays, ask the partner for another target.",
        "暂时无法把数据推送到 {address}：{reason}。", "系统会自动重试；若持续出现，请让伙伴更换接收地址。"),
    "exchange.push-refused": ErrorRow(
        "refused", 403, 1,
        "The push to {address} was refused: {reason}.", "Ask the partner for a target that takes it, then begin a new transfer.",
        "推送到 {address} 被拒绝：{reason}。", "请让伙伴提供可接收的地址，再发起新的传输。"),
    "exchange.query-failed": ErrorRow(
        "refused", 422, 1,
        "The query could not be run to its end; the provider's job record {job} says why.", "Ask the provider; choose other parameters, or a template that reads less.",
        "查询未能运行完毕；原因见提供方的作业记录 {job}。", "请询问提供方；或更换参数，或改用读取较少数据的模板。"),
    "exchange.query-refused": ErrorRow(
        "refused", 403, 1,
        "The query is refused by the rule {rule}: {reason}.", "Ask for larger groups or other parameters; what was released before counts.",
        "查询被规则 {rule} 拒绝：{reason}。", "请扩大分组或更换参数；此前已给出的结果同样计入。"),
    "exchange.question-refused": ErrorRow(
        "refused", 403, 1,
        "Questions of the kind {kind} are not answered here.", "Ask the partner which questions the agreement covers.",
        "此处不答复 {kind} 类问题。", "请向伙伴确认合约涵盖哪些问题。"),
    "exchange.receipt-bad": ErrorRow(
        "refused", 400, 1,
        "The usage record is not acceptable: {reason}.", "Compare both sides' records of the transfer.",
        "用量记录无法接受：{reason}。", "请比对双方的传输记录。"),
    "exchange.relay-away": ErrorRow(
        "retry", 503, 3,
        "{name} is not connected to its relay now.", "Nothing is lost: messages wait and are sent again; it connects by itself when its node runs.",
        "{name} 目前未连接到中转节点。", "消息不会丢失，将排队重发；对方节点运行时会自行连接。"),
    "exchange.relay-lost": ErrorRow(
        "retry", 503, 3,
        "The relay at {relay} can't be reached: {reason}.", "The node goes on trying; partners' messages wait until it is back. Check this PC's way to the internet.",
        "无法连接位于 {relay} 的中转节点：{reason}。", "节点会继续重试，伙伴的消息将排队等待；请检查本机的外网连接。"),
    "exchange.relay-name-late": ErrorRow(
        "config", 409, 2,
        "This node already runs under another name ({did}), and a relayed address would change it.", "Join from an empty directory (--directory), or give the node its own address (web.public-url) and join with --direct.",
        "本节点已以其他标识（{did}）运行，使用中转地址会改变其标识。", "请在空目录（--directory）中加入，或为节点配置自己的地址（web.public-url）并用 --direct 加入。"),
    "exchange.relay-refused": ErrorRow(
        "refused", 403, 1,
        "The relay refuses: {reason}.", "Ask the leader of the space, or choose another name with --name.",
        "中转节点拒绝：{reason}。", "请联系空间发起方，或用 --name 另选名称。"),
    "exchange.space-name": ErrorRow(
        "skip", 400, 4,
        "A space can't be called “{name}”.", "Choose a name of 1 to 120 characters.",
        "空间名称不能是“{name}”。", "请取 1 到 120 个字符的名称。"),
    "exchange.space-unknown": ErrorRow(
        "refused", 404, 1,
        "This node leads no space.", "Found one first: guantong space init NAME",
        "本节点未发起任何空间。", "请先发起空间：guantong space init 名称"),
    "exchange.template-refused": ErrorRow(
        "refused", 400, 1,
        "The query template is refused: {what}: {reason}.", "A template is one aggregate over the view data; see docs/how-to/algorithm-to-data.md.",
        "查询模板被拒绝：{what}：{reason}。", "模板只能是对视图 data 的一个聚合查询，见 docs/how-to/algorithm-to-data.zh-CN.md。"),
    "exchange.template-unknown": ErrorRow(
        "refused", 404, 1,
        "No approved query template has the digest {template}.", "Approve the signed template first: guantong query approve FILE.",
        "没有摘要为 {template} 的已批准查询模板。", "请先批准已签名的模板：guantong query approve FILE。"),
    "exchange.stream-changed": ErrorRow(
        "refused", 409, 1,
        "The stream can't go on after row {sequence}: {reason}.", "Begin it anew, or go on after the row that was acknowledged last.",
        "数据流无法从第 {sequence} 行之后继续：{reason}。", "请重新开始，或从最后确认的行之后继续。"),
    "exchange.term-refused": ErrorRow(
        "refused", 400, 1,
        "The policy term {term} is refused: {reason}.", "Remove it, or write it with the terms this node knows.",
        "策略条款 {term} 被拒绝：{reason}。", "请删除该条款，或改用本节点认识的条款。"),
    "exchange.token-refused": ErrorRow(
        "refused", 401, 1,
        "The token is refused: {reason}.", "Send a fresh token that names this participant.",
        "令牌被拒绝：{reason}。", "请发送指明本参与方的新令牌。"),
    "exchange.too-many-requests": ErrorRow(
        "retry", 429, 3,
        "{participant} makes more than {limit} requests a second.", "Wait a second and go on more slowly.",
        "{participant} 每秒请求数超过 {limit}。", "请稍候一秒并放慢速度。"),
    "exchange.transition-refused": ErrorRow(
        "refused", 400, 1,
        "{message} by the {sender} is not possible in the state {state}.", "Read the state of the process and decide anew.",
        "状态为 {state} 时，{sender} 不能发送 {message}。", "请读取流程状态后再决定。"),
    "exchange.wait-ended": ErrorRow(
        "retry", 504, 3,
        "{pid} did not reach {wanted} in time; it is {state}.", "Look at the process; it goes on by itself.",
        "{pid} 未及时到达 {wanted}，当前为 {state}。", "请查看该流程；它会自行继续。"),
    # prove
    "prove.challenge-refused": ErrorRow(
        "refused", 409, 1,
        "The challenge of {figure} is refused: {reason}.", "A figure is challenged once, with the nonce of its order; order it anew for another draw.",
        "对带证数 {figure} 的抽查被拒绝：{reason}。", "每个带证数只能用订购时的随机数抽查一次；需要再次抽查请重新订购。"),
    "prove.chunk-differs": ErrorRow(
        "corrupt", 500, 5,
        "Stored rows of {stream} are not those that entry {entry} committed to.", "Keep the data as evidence and restore the table from a back-up; no figure can be made of it until then.",
        "{stream} 的已存数据与条目 {entry} 承诺的不一致。", "请保留现状作为证据并从备份恢复数据表；恢复之前无法据此出具带证数。"),
    "prove.figure-impossible": ErrorRow(
        "refused", 409, 1,
        "The figure {figure} can't be made: {reason}.", "Choose another window, or correct the inputs of the definition.",
        "无法出具带证数 {figure}：{reason}。", "请更换时间窗口，或更正定义中的输入。"),
    "prove.figure-invalid": ErrorRow(
        "config", 400, 2,
        "The definition of {figure} is not usable: {reason}.", "Correct it; `guantong figure functions` lists the functions with their roles and parameters.",
        "带证数 {figure} 的定义不可用：{reason}。", "请更正；`guantong figure functions` 列出各函数及其角色和参数。"),
    "prove.figure-refused": ErrorRow(
        "refused", 403, 1,
        "The figure {figure} is not part of agreement {agreement}.", "Ask the owner to define it for this agreement.",
        "带证数 {figure} 不在合约 {agreement} 的范围之内。", "请由数据持有方为该合约定义。"),
    "prove.figure-unknown": ErrorRow(
        "skip", 404, 4,
        "There is no figure {figure}.", "See `guantong figure list`.",
        "没有带证数 {figure}。", "请用 `guantong figure list` 查看。"),
    "prove.figure-unusable": ErrorRow(
        "skip", 502, 4,
        "The partner's figure can't be used: {reason}.", "Ask the partner to make it again; keep what came.",
        "对方的带证数不可用：{reason}。", "请对方重新出具，并保留已收到的内容。"),
    "prove.anchor-later": ErrorRow(
        "retry", 503, 3,
        "The anchor {kind} did not answer: {reason}.", "It is asked again; if it stays so, check its address and that it runs.",
        "锚定方（{kind}）未作应答：{reason}。", "系统会再次请求；如一直如此，请检查其地址以及服务是否在运行。"),
    "prove.anchor-refused": ErrorRow(
        "refused", 403, 1,
        "The anchor {kind} does not hold: {reason}.", "Do not rely on the time it states.",
        "锚定（{kind}）不成立：{reason}。", "请勿采信其所载时间。"),
    "prove.anchor-setting": ErrorRow(
        "config", 500, 2,
        "The anchor {kind} can't be used: {reason}.", "Correct the prove settings that name its address, contract, key or certificates.",
        "无法使用锚定方（{kind}）：{reason}。", "请更正存证设置中的地址、合约、密钥或证书。"),
    "prove.no-such-agreement": ErrorRow(
        "skip", 404, 4,
        "The evidence log has no entry about the agreement {agreement}.", "Check the identifier; entries appear once the agreement is made.",
        "存证日志中没有关于合约 {agreement} 的条目。", "请核对合约标识；合约达成后才会出现条目。"),
    "prove.no-such-log": ErrorRow(
        "skip", 404, 4,
        "This node keeps no evidence log for {participant}.", "Ask the node that hosts this participant.",
        "本节点没有 {participant} 的存证日志。", "请向托管该参与方的节点查询。"),
    "prove.not-in-log": ErrorRow(
        "skip", 404, 4,
        "Entry {index} lies outside the published log.", "Wait until the log has caught up, or ask for a smaller index.",
        "条目 {index} 不在已发布的日志范围内。", "请等待日志追上，或使用更小的序号。"),
    "prove.openings-spent": ErrorRow(
        "refused", 403, 1,
        "The contract lets {limit} chunks of {figure} be opened, not {asked}.", "Ask for fewer draws, or agree on a contract that opens more.",
        "合约允许打开 {figure} 的 {limit} 个数据块，本次要求 {asked} 个。", "请减少抽查次数，或另行约定更多的可打开数量。"),
    "prove.package-conflict": ErrorRow(
        "config", 500, 2,
        "The package can't be put together: {reason}.", "Give every file of the package a path of its own, in plain ASCII.",
        "无法生成存证包：{reason}。", "请为包内每个文件指定互不相同的路径，只用 ASCII 字符。"),
    "prove.package-moving": ErrorRow(
        "retry", 409, 3,
        "The papers about {agreement} keep changing while the package is made.", "Try again when the transfer is quiet.",
        "生成存证包期间，合约 {agreement} 的文件一直在变化。", "请在传输平静后重试。"),
    "prove.package-too-large": ErrorRow(
        "refused", 413, 1,
        "The package would have {size} bytes; at most {limit} are allowed.", "Raise the limit in the settings, or leave large documents out.",
        "存证包将有 {size} 字节，上限为 {limit}。", "请在设置中提高上限，或不附带大文件。"),
    "prove.package-unreadable": ErrorRow(
        "skip", 400, 4,
        "The package can't be read: {reason}.", "Check the path and ask its maker for the original file.",
        "无法读取存证包：{reason}。", "请检查路径，并向出具方索取原始文件。"),
    "prove.rolled-back": ErrorRow(
        "corrupt", 500, 5,
        "The witness {witness} has seen this log with {theirs} entries; here it has {ours}.",
        "The records were set back. Stop the node, restore the newest back-up, keep both copies as evidence.",
        "见证方 {witness} 见过本日志 {theirs} 个条目的版本，而此处只有 {ours} 个。", "记录被回退。请停止节点，恢复最新备份，并保留两份副本作为证据。"),
    "prove.split-view": ErrorRow(
        "corrupt", 500, 5,
        "The witness {witness} has seen another history of this log than the one with {size} entries here.",
        "Stop the node and keep everything as evidence; compare the checkpoints of both sides.",
        "见证方 {witness} 见过的本日志历史与此处 {size} 个条目的历史不同。", "请停止节点并保留全部内容作为证据，比对双方的检查点。"),
    "prove.tiles-unusable": ErrorRow(
        "skip", 502, 3,
        "The log of {did} hands out no tiles that lead to its checkpoint of {size} entries.", "Ask the partner to repair its log; until then its checkpoint can't be compared.",
        "{did} 的日志所给出的数据块无法对应其 {size} 条目的检查点。", "请让该伙伴修复日志；在此之前无法比对其检查点。"),
    "prove.tree-damaged": ErrorRow(
        "corrupt", 500, 5,
        "The evidence log of {participant} is damaged: {reason}.", "Stop the node and restore the records from a back-up; keep the damaged files.",
        "{participant} 的存证日志已损坏：{reason}。", "请停止节点并从备份恢复记录，同时保留损坏的文件。"),
    "prove.trust-unreadable": ErrorRow(
        "config", 400, 4,
        "The trust file can't be read: {reason}.", "Write it anew with guantong trust export, then check the keys with their owners.",
        "无法读取信任文件：{reason}。", "请用 guantong trust export 重新生成，然后与各方核对密钥。"),
    "prove.witness-later": ErrorRow(
        "retry", 503, 3,
        "The witness {witness} can't cosign now (status {status}).", "Nothing to do: it is asked again.",
        "见证方 {witness} 暂时无法会签（状态 {status}）。", "无需处理，系统会再次请求。"),
    "prove.witness-refused": ErrorRow(
        "refused", 403, 1,
        "The witness {witness} refuses to cosign (status {status}).", "Ask the partner to list this participant's evidence key.",
        "见证方 {witness} 拒绝会签（状态 {status}）。", "请让伙伴登记本参与方的存证密钥。"),
    # settle
    "settle.agreement-mixed": ErrorRow(
        "skip", 400, 4,
        "The usage records do not belong to one agreement: {member} is {values}.", "Derive one invoice for each agreement.",
        "用量记录不属于同一份合约：{member} 为 {values}。", "请按合约分别计算账单。"),
    "settle.dispute-forged": ErrorRow(
        "refused", 409, 1,
        "The partner's answer in the dispute contradicts what it signed: {reason}.", "Keep both as evidence: the signed root and this answer can't both be true.",
        "争议中对方的答复与其签名内容矛盾：{reason}。", "请将二者都留作证据：已签名的根散列与该答复不可能同时为真。"),
    "settle.invoice-unknown": ErrorRow(
        "refused", 404, 1,
        "There is no such invoice for the agreement {agreement}.", "List the invoices of this agreement.",
        "合约 {agreement} 没有该账单。", "请查看该合约的账单列表。"),
    "settle.invoice-unusable": ErrorRow(
        "skip", 400, 4,
        "This invoice can't be read: {reason}.", "Send the invoice as guantong derives it, with its signature.",
        "无法读取该账单：{reason}。", "请按 guantong 的账单格式连同签名一起发送。"),
    "settle.netting-unproven": ErrorRow(
        "refused", 500, 1,
        "The netting is not proven to be the greatest: {reason}.", "Nothing was set off. Keep the obligations and report this with the version of SciPy.",
        "无法证明该轧差已达最大：{reason}。", "未作任何抵销。请保留债务清单，并连同 SciPy 版本一并反馈。"),
    "settle.no-dispute": ErrorRow(
        "refused", 409, 1,
        "The receipt {record} is not in a dispute that can be taken further (it is {state}).", "See the receipts of the contract; a dispute begins when the consumer counted otherwise.",
        "回执 {record} 没有可继续处理的争议（状态：{state}）。", "请查看合约的回执；使用方计数不一致时才产生争议。"),
    "settle.not-a-party": ErrorRow(
        "refused", 403, 1,
        "{partner} may not invoice under the agreement {agreement}.", "Only the agreement's provider sends its invoices to its consumer.",
        "{partner} 无权就合约 {agreement} 开具账单。", "账单只能由该合约的提供方发给使用方。"),
    "settle.note-refused": ErrorRow(
        "refused", 409, 1,
        "The partner did not sign the credit note {number}: {reason}.", "Compare the resolutions and receipts of both sides.",
        "对方没有签署红字账单 {number}：{reason}。", "请比对双方的争议处理结果和回执。"),
    "settle.nothing-to-credit": ErrorRow(
        "refused", 409, 1,
        "Nothing is to be given back under the agreement {agreement}.", "A credit note follows a resolved dispute or a missed service level, after an invoice.",
        "合约 {agreement} 下没有需要退还的金额。", "红字账单出现在争议解决或服务水平未达标之后，且须先有账单。"),
    "settle.nothing-to-invoice": ErrorRow(
        "refused", 409, 1,
        "No receipt of the agreement {agreement} counts yet; {waiting} wait for the consumer's signature.", "Transfer data first, or wait for the countersignatures.",
        "合约 {agreement} 尚无可计费的回执，有 {waiting} 张在等使用方签名。", "请先传输数据，或等待使用方回签。"),
    "settle.obligation-unusable": ErrorRow(
        "skip", 400, 4,
        "The obligation of {debtor} to {creditor} can't be used: {reason}.", "Correct the line; amounts are whole minor units, one currency a netting.",
        "{debtor} 对 {creditor} 的债务不可用：{reason}。", "请更正该行；金额为最小货币单位的整数，一次轧差只用一种货币。"),
    "settle.paper-impossible": ErrorRow(
        "refused", 409, 1,
        "{number} can't be written in this form: {reason}.", "Use another form (JSON, HTML, PDF), or complete the parties' particulars.",
        "{number} 无法以该格式生成：{reason}。", "请改用其他格式（JSON、HTML、PDF），或补全双方信息。"),
    "settle.partner-busy": ErrorRow(
        "retry", 503, 3,
        "{partner} did not take the invoice now (HTTP {status}).", "It is sent again by itself; nothing was lost.",
        "{partner} 暂未接收账单（HTTP {status}）。", "系统会自动重发，数据没有丢失。"),
    "settle.partner-refused": ErrorRow(
        "refused", 502, 1,
        "{partner} refused the invoice (HTTP {status} {answer}).", "A connector without invoices can't answer: send the invoice by another way, or ask the partner.",
        "{partner} 拒绝了账单（HTTP {status} {answer}）。", "对方连接器可能不支持账单，请用其他方式发送或联系对方。"),
    "settle.plan-invalid": ErrorRow(
        "config", 400, 2,
        "The price plan can't be used: {path} {reason} ({problems} problem(s)).", "Correct the price plan of the product.",
        "价格方案不可用：{path} {reason}（共 {problems} 处问题）。", "请修改产品的价格方案。"),
    "settle.proposal-refused": ErrorRow(
        "refused", 409, 1,
        "The proposal about {record} is refused: {reason}.", "Look at the dispute on both sides and propose anew.",
        "关于 {record} 的处理建议被拒绝：{reason}。", "请双方查看该争议后重新提出建议。"),
    "settle.receipt-conflict": ErrorRow(
        "refused", 409, 1,
        "The receipts {first} and {second} have one number but different contents.", "Keep both as evidence and settle the dispute with the partner.",
        "回执 {first} 与 {second} 编号相同但内容不同。", "请保留两者作为证据，并与对方解决争议。"),
    "settle.record-unusable": ErrorRow(
        "skip", 400, 4,
        "The usage record {record} can't be charged: {reason}.", "Charge by a unit that the records count, or have the record corrected.",
        "用量记录 {record} 无法计费：{reason}。", "请改用记录中有计量的单位，或更正该记录。"),
    "settle.share-invalid": ErrorRow(
        "config", 400, 2,
        "The revenue cannot be shared: {reason}.", "Correct the declared rule or its inputs.",
        "无法分配收益：{reason}。", "请更正所声明的规则或其输入。"),
    # value
    "value.cost-invalid": ErrorRow(
        "config", 400, 2,
        "The cost {item} can't be entered.", "Give an item, a decimal amount, a three-letter currency and a window that does not end before it starts.",
        "成本 {item} 无法入账。", "请填写项目、十进制金额、三位币种代码，且结束时间不得早于开始时间。"),
    "value.cost-unknown": ErrorRow(
        "refused", 404, 1,
        "There is no ledger line {entry} to correct.", "Look the line up in the cost ledger.",
        "成本账本中没有可更正的记录 {entry}。", "请在成本账本中查找该记录。"),
    "value.factor-invalid": ErrorRow(
        "config", 400, 2,
        "The appraisal factor {factor} can't be used: {value}.", "Give low, likely and high as numbers not below zero, in this order.",
        "评估系数 {factor} 不可用：{value}。", "请依次给出不小于零的低、中、高三个数值。"),
    "value.nothing-to-appraise": ErrorRow(
        "refused", 409, 1,
        "There is no cost in one currency to appraise {subject} from (currencies: {currencies}).", "Configure rates or enter costs by voucher, in one currency.",
        "没有单一币种的成本可用于评估 {subject}（币种：{currencies}）。", "请配置单价或按凭证录入成本，并统一币种。"),
    "value.quality-missing": ErrorRow(
        "refused", 409, 1,
        "The quality of {subject} was never scored, so there is no coefficient.", "Have govern score the dataset first.",
        "{subject} 尚未做过质量评分，无法得出质量系数。", "请先对该数据集进行质量评分。"),
    "value.rate-invalid": ErrorRow(
        "config", 400, 2,
        "The rate for {meter} can't be used: {reason}.", "Correct this rate.",
        "{meter} 的单价不可用：{reason}。", "请修改该单价。"),
    # watch
    "watch.component-unknown": ErrorRow(
        "skip", 404, 4,
        "The component {component} is not in the supply table.", "Enter its stock and usage, or check the spelling.",
        "供应表中没有部件 {component}。", "请录入其库存和用量，或检查名称。"),
    "watch.factor-unknown": ErrorRow(
        "config", 400, 2,
        "There is no emission factor {factor}.", "Choose one of: {known}.",
        "没有名为 {factor} 的排放因子。", "可选：{known}。"),
    "watch.partner-silent": ErrorRow(
        "refused", 502, 1,
        "The partner under the agreement {agreement} did not tell how long its supply lasts: {reason}.", "Ask the partner to enter its stocks, or check the agreement.",
        "合约 {agreement} 的对方没有告知供应可维持的时间：{reason}。", "请对方录入库存，或检查合约。"),
    "watch.question-unusable": ErrorRow(
        "skip", 400, 4,
        "The question does not name a component.", "Ask with component and, if need be, disrupted.",
        "提问中没有指明部件。", "请在提问中写明 component，必要时写明 disrupted。"),
    "watch.supply-invalid": ErrorRow(
        "config", 400, 2,
        "The supply table can't be used: {component} {reason}.", "Correct this row of the table.",
        "供应表不可用：{component} {reason}。", "请修改表中的这一行。"),
    # config
    "config.unknown": ErrorRow(
        "config", 500, 2,
        "There is no setting “{name}” ({where}).", "See `guantong settings` for every setting.",
        "没有名为 {name} 的设置（{where}）。", "用 guantong settings 查看全部设置。"),
    "config.unreadable": ErrorRow(
        "config", 500, 2,
        "The settings file {file} can't be read: {reason}.", "Mend the file; it is TOML in UTF-8.",
        "无法读取设置文件 {file}：{reason}。", "请修正该文件，格式为 UTF-8 编码的 TOML。"),
    "config.wrong-type": ErrorRow(
        "config", 500, 2,
        "The setting {name} is “{value}”, which is not of type {kind}.", "Correct the value; `guantong settings` shows the type.",
        "设置 {name} 的值 {value} 不是 {kind} 类型。", "请改正该值；guantong settings 会显示类型。"),
    # web
    "web.address-refused": ErrorRow(
        "refused", 403, 1,
        "{url} may not be called: {reason}.", "Check the address; where it is right, add its network to the settings web.partner_networks or web.plant_networks.",
        "不允许访问 {url}：{reason}。", "请核对地址；若地址无误，请把它所在的网段加入设置 web.partner_networks 或 web.plant_networks。"),
    "web.answer-too-large": ErrorRow(
        "skip", 502, 4,
        "The answer of {url} is larger than {limit} bytes.", "Ask for less at once, for example a shorter time range.",
        "{url} 的回答超过 {limit} 字节。", "请一次少取一些，例如缩短时间范围。"),
    "web.body-too-large": ErrorRow(
        "skip", 413, 4,
        "The request body is larger than {limit} bytes.", "Send it in smaller pieces.",
        "请求体超过 {limit} 字节。", "请分成较小的部分发送。"),
    "web.body-too-slow": ErrorRow(
        "retry", 408, 3,
        "The request body did not arrive within {seconds} s.", "Check the connection and send the request again.",
        "请求体在 {seconds} 秒内没有到齐。", "请检查网络连接后重新发送。"),
    "web.certificate-refused": ErrorRow(
        "refused", 502, 1,
        "The certificate of {url} is not trusted: {reason}.", "Ask the other side to renew it, or name its authority in the setting web.ca_file.",
        "{url} 的证书不可信：{reason}。", "请对方更新证书，或在设置 web.ca_file 中指定其签发机构。"),
    "web.certificate-unreadable": ErrorRow(
        "config", 500, 2,
        "The certificate {path} can't be used: {reason}.", "Check the settings web.tls_certificate and web.tls_key.",
        "证书 {path} 无法使用：{reason}。", "请检查设置 web.tls_certificate 和 web.tls_key。"),
    "web.field-missing": ErrorRow(
        "skip", 400, 4,
        "The field “{field}” is missing or not usable: {reason}.", "Fill it in and send again.",
        "字段 {field} 缺失或无法使用：{reason}。", "请填写后重新提交。"),
    "web.forgery-suspected": ErrorRow(
        "refused", 403, 1,
        "This request does not carry the token of your session.", "Open the page again and repeat what you did.",
        "该请求没有携带当前会话的令牌。", "请重新打开页面，再操作一次。"),
    "web.internal": ErrorRow(
        "corrupt", 500, 5,
        "Something in this node went wrong (reference {reference}).", "Try again; if it stays so, look for the reference in the node's log and report it.",
        "本节点内部出错（编号 {reference}）。", "请重试；若仍如此，请在节点日志中查找该编号并报告。"),
    "web.link-used": ErrorRow(
        "refused", 403, 1,
        "This sign-in link was used already, is too old, or was never issued.", "Run: guantong sign-in",
        "该登录链接已被使用、已过期，或从未签发。", "请运行：guantong sign-in"),
    "web.method-not-allowed": ErrorRow(
        "refused", 405, 1,
        "{path} does not take {method} requests.", "Look up the methods in /api/openapi.json.",
        "{path} 不接受 {method} 请求。", "可用的方法请查 /api/openapi.json。"),
    "web.not-found": ErrorRow(
        "refused", 404, 1,
        "There is nothing at {path}.", "Start from the journey at /, or look up the address in /api/openapi.json.",
        "{path} 处没有内容。", "请从首页 / 的数据旅程开始，或在 /api/openapi.json 中查找地址。"),
    "web.not-signed-in": ErrorRow(
        "refused", 401, 1,
        "You are not signed in.", "Run: guantong sign-in, and open the link it prints.",
        "尚未登录。", "请运行 guantong sign-in，并打开它给出的链接。"),
    "web.port-in-use": ErrorRow(
        "config", 503, 2,
        "Can't listen on {host} port {port}: {reason}.", "Stop the other program, or choose another port (0 takes a free one).",
        "无法监听 {host} 的 {port} 端口：{reason}。", "请停止占用端口的程序，或换一个端口（0 表示自动选取空闲端口）。"),
    "web.stage-silent": ErrorRow(
        "retry", 503, 3,
        "The stage “{stage}” gave no answer: {reason}.", "Look at its health line under Settings; it is restarted by itself.",
        "环节“{stage}”没有应答：{reason}。", "请在“设置”页查看其运行状态；它会自动重启。"),
    "web.read-only": ErrorRow(
        "refused", 403, 1,
        "This session is an auditor's: it may read contracts, grades, evidence and invoices, and change nothing.", "Ask the node's owner to do it, or for an owner's link: guantong sign-in",
        "当前会话为审计会话：可查看合约、分级、存证和账单，不能作任何改动。", "请由节点所有者操作，或向其索取所有者的登录链接：guantong sign-in"),
    "web.unreachable": ErrorRow(
        "retry", 504, 3,
        "{url} did not answer: {reason}.", "Check that the other side runs and that a firewall lets the connection through; it is tried again.",
        "{url} 没有应答：{reason}。", "请确认对方正在运行、防火墙允许该连接；稍后会自动重试。"),
    # node
    "node.none-here": ErrorRow(
        "config", 404, 2,
        "There is no node in {directory}.", "Name its directory with --directory, or start one: guantong run",
        "{directory} 中没有节点。", "请用 --directory 指定节点目录，或启动一个节点：guantong run"),
    "node.not-running": ErrorRow(
        "retry", 503, 3,
        "The node in {directory} is not running, and this needs a node that partners can reach.", "Start it in another window: guantong run",
        "{directory} 中的节点没有运行，而此操作需要伙伴能够访问的节点。", "请在另一个窗口中启动：guantong run"),
    # demo
    "demo.directory-taken": ErrorRow(
        "config", 500, 2,
        "{directory} holds files that no demo made.", "Name another directory with --directory.",
        "{directory} 中有不是演示生成的文件。", "请用 --directory 指定其他目录。"),
    "demo.process-ended": ErrorRow(
        "config", 500, 2,
        "A process of the demo ended early (exit code {code}).", "Look into the .log files in the demo's directory.",
        "演示中的一个进程提前结束（退出码 {code}）。", "请查看演示目录中的 .log 文件。"),
    "demo.step-failed": ErrorRow(
        "config", 500, 2,
        "The step “{step}” failed: {reason}", "Look into the .log files in the demo's directory.",
        "步骤 {step} 失败：{reason}", "请查看演示目录中的 .log 文件。"),
    # cli
    "cli.file-unreadable": ErrorRow(
        "config", 400, 2,
        "The file {path} can't be used: {reason}.", "Check its name and whether you may read or write there.",
        "无法使用文件 {path}：{reason}。", "请检查文件名以及读写权限。"),
    "cli.unexpected": ErrorRow(
        "retry", 500, 3,
        "Something happened that nobody foresaw: {reason}.", "Set GUANTONG_DEBUG=1, try again, and report what it prints.",
        "发生了未预料的情况：{reason}。", "请设置 GUANTONG_DEBUG=1 后重试，并反馈输出内容。"),
}
# fmt: on
